"""Which replica a request goes to: the one that holds its stream's state, or one with room."""

from __future__ import annotations

import time
from functools import cache
from typing import Any

from relo_edge.host.telemetry import import_silenced

__all__ = ["ROUTER", "STATS_SECONDS"]

STATS_SECONDS = 1.0
"""How often a replica reports how many streams it follows."""

ROUTER = f"{__name__}.StreamRouter"
"""By name, as Ray Serve wants it: the class is made when it is asked for, as its base is Ray's."""


def __getattr__(name: str) -> Any:
    """Make the router on first use."""
    if name != "StreamRouter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _make_router()


@cache
def _make_router() -> type:
    """A request router for Ray Serve.

    A request names the replica that holds its stream (the keyword `replica`). Where that one is
    gone, another gets the request: it does not know the stream, says so, and the client starts it
    again. New streams go to the replica that follows the fewest.
    """
    base: Any = import_silenced("ray.serve.request_router").RequestRouter

    class StreamRouter(base):  # type: ignore[misc]
        def initialize_state(self, **_options: Any) -> None:
            self._begun: dict[str, tuple[int, list[float]]] = {}

        async def choose_replicas(
            self, candidate_replicas: list[Any], pending_request: Any = None
        ) -> list[list[Any]]:
            """The replica that is named, or all, those with the fewest streams first."""
            wanted = pending_request.kwargs.get("replica") if pending_request else None
            for replica in candidate_replicas:
                if replica.replica_id.unique_id == wanted:
                    return [[replica]]
            ranked = sorted(candidate_replicas, key=self._count_streams)
            return [[replica] for replica in ranked]

        def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
            """Count a new stream at once: the replica's own count comes later."""
            del result
            if "replica" in pending_request.kwargs and not pending_request.kwargs["replica"]:
                reported, begun = self._begun.get(replica_id.unique_id, (0, []))
                self._begun[replica_id.unique_id] = (reported, [*begun, time.monotonic()])

        def _count_streams(self, replica: Any) -> int:
            """What the replica reported last, and what was sent to it since.

            A stream that ended before the next report shows in none: it is forgotten after a while.
            """
            name = replica.replica_id.unique_id
            reported = int(replica.routing_stats.get("streams", 0))
            before, begun = self._begun.get(name, (0, []))
            oldest = time.monotonic() - 2 * STATS_SECONDS
            recent = [moment for moment in begun if moment > oldest] if reported == before else []
            self._begun[name] = (reported, recent)
            return reported + len(recent)

    return StreamRouter
