"""One replica: a runtime on its own GPU or cores, and the state of the streams that it follows."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from relo_edge.errors import DeviceError, ReloError
from relo_edge.fleet.messages import Ask, FleetModel
from relo_edge.fleet.stream_table import Reply, StreamTable
from relo_edge.host.telemetry import import_silenced
from relo_edge.runtime import open_runtime

if TYPE_CHECKING:
    from relo_edge.fleet.deployment import FleetOptions

__all__ = ["TrackerReplica"]


class TrackerReplica:
    """What Ray Serve runs; frames that come while a step is computed go into the next one."""

    def __init__(self, options: FleetOptions) -> None:
        self._runtime = open_runtime(
            options.bundle,
            options.runtime,
            options.precision,
            batch=options.streams,
            threads=options.threads,
        )
        runtime, variant = self._runtime, self._runtime.variant
        protocol = variant.protocol(options.protocol)
        self._model = FleetModel(variant, protocol, runtime.name, runtime.precision)
        self._table = StreamTable(runtime, protocol)
        self._waiting: list[tuple[Ask, asyncio.Future[Reply]]] = []
        self._working: asyncio.Task[None] | None = None
        # A thread of its own: while it computes, Serve hears that the replica is alive.
        self._thread = ThreadPoolExecutor(1)
        self._fault: DeviceError | None = None
        self._name = _read_own_name()

    async def describe(self) -> FleetModel:
        """What a client must know before its first frame."""
        return self._model

    async def ask(self, ask: Ask, replica: str | None = None) -> tuple[str, Reply]:
        """Answer one request, and say which replica did; `replica` is for the router."""
        del replica
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        return self._name, await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            asks = [ask for ask, _ in batch]
            try:
                replies = await loop.run_in_executor(self._thread, self._table.answer, asks)
            except Exception as error:
                replies = [ReloError("a replica failed", found=error)] * len(asks)
            for (_, answer), reply in zip(batch, replies, strict=True):
                if isinstance(reply, DeviceError):
                    self._fault = reply
                if not answer.done():  # its client may have given up
                    answer.set_result(reply)

    def check_health(self) -> None:
        """Serve asks; a replica whose GPU has failed is replaced."""
        if self._fault is not None:
            raise self._fault

    def record_routing_stats(self) -> dict[str, Any]:
        """For the router: new streams go where there is room."""
        return {"streams": len(self._table)}


def _read_own_name() -> str:
    """The replica's name in Serve."""
    serve = import_silenced("ray.serve")

    return str(serve.get_replica_context().replica_id.unique_id)
