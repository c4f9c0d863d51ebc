"""The tracker over a fleet: crops are cut here, the network and each stream's state are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, ReloError, RuntimeUnavailable
from relo_edge.fleet.deployment import APP, import_serve
from relo_edge.fleet.messages import Ask, FleetModel, Refusal, TargetPart, TemplateCrop
from relo_edge.host.telemetry import import_silenced
from relo_edge.lost import LostRule
from relo_edge.remote.remote_runtime import PATIENCE, FrameAnswer, RemoteRuntime, StateLost
from relo_edge.remote.remote_tracker import RemoteTracker
from relo_edge.video.live import ReconnectPolicy

__all__ = ["FleetRuntime", "FleetTracker"]


class FleetRuntime(RemoteRuntime):
    """The Runtime protocol over a fleet's replicas, from a process of the same Ray cluster.

    Each slot is a stream of its own, which stays with one replica; a step sends one request for
    each, all at once. Not for several threads.

    Args:
        name: the application's name.
        batch: the most targets that are followed at once.
        reconnect: how long an answer is waited for (`stall_seconds`), and how often it is asked
            for again.

    Raises:
        InputError: there is no such application.
        RuntimeUnavailable: no replica answers.
        MissingDependency: ray[serve] is not installed.
    """

    name = "fleet"

    def __init__(
        self, name: str = APP, *, batch: int = 1, reconnect: ReconnectPolicy | None = None
    ) -> None:
        self.device = f"fleet {name}"
        self._lost = _list_losses()
        reconnect = reconnect or PATIENCE
        self._handle = _find_app(name)
        model = self._describe(reconnect)
        super().__init__(model.variant, model.protocol, batch, reconnect)
        self.precision = f"{model.precision} in {model.runtime}"
        self._streams = [uuid4().hex for _ in range(batch)]
        self._replicas: list[str | None] = [None] * batch
        self._steps = [0] * batch
        self._target: list[dict[int | str, TargetPart]] = [{} for _ in range(batch)]
        self._new: list[set[int | str]] = [set() for _ in range(batch)]

    def _describe(self, reconnect: ReconnectPolicy) -> FleetModel:
        try:
            asked = self._handle.describe.remote()
            described: FleetModel = asked.result(timeout_s=reconnect.stall_seconds)
        except self._lost as error:
            raise RuntimeUnavailable(
                f"{self.device}: no replica answers",
                found=type(error).__name__,
                fix="`serve status` shows the replicas",
            ) from None
        return described

    def _encode(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        self._keep(slot, index, TemplateCrop(template.copy(), np.array(box, np.float32)))

    def _set(self, slot: int, name: str, values: NDArray[np.float32]) -> None:
        self._keep(slot, name, np.array(values, np.float32))

    def _keep(self, slot: int, place: int | str, part: TargetPart) -> None:
        """It goes with the next frame, and again wherever the stream starts again."""
        self._target[slot][place] = part
        self._new[slot].add(place)

    def _ask(
        self, slots: Sequence[int], pixels: NDArray[np.uint8]
    ) -> Sequence[FrameAnswer | StateLost | RuntimeUnavailable]:
        sent = [self._send(slot, picture) for slot, picture in zip(slots, pixels, strict=True)]
        return [self._receive(slot, asked) for slot, asked in zip(slots, sent, strict=True)]

    def _send(self, slot: int, picture: NDArray[np.uint8]) -> Any:
        kept = self._slots[slot]
        if not kept.has_history:
            self._steps[slot], self._new[slot] = 0, set(self._target[slot])
        elif kept.rewound:  # the replica has taken it back already: the answer was not finite
            self._steps[slot] -= 1
        new = {place: self._target[slot][place] for place in self._new[slot]}
        ask = Ask(self._streams[slot], self._steps[slot], new, picture.copy())
        return self._handle.ask.remote(ask, replica=self._replicas[slot])

    def _receive(self, slot: int, asked: Any) -> FrameAnswer | StateLost | RuntimeUnavailable:
        try:
            replica, reply = asked.result(timeout_s=self.reconnect.stall_seconds)
        except self._lost as error:
            asked.cancel()
            replica, reply = None, StateLost(f"no answer: {type(error).__name__}", unreachable=True)
        if isinstance(reply, Refusal):
            replica, reply = None, StateLost(reply.reason, unreachable=reply.full)
        self._replicas[slot] = replica  # whoever has lost the stream may go to any
        if isinstance(reply, StateLost):
            return reply
        if isinstance(reply, ReloError):
            return RuntimeUnavailable(f"{self.device}: a replica fails", found=reply)
        self._steps[slot] += 1
        self._new[slot].clear()
        answer: FrameAnswer = reply
        return answer

    def _end(self, slots: Sequence[int]) -> None:
        for slot in slots:
            last = Ask(self._streams[slot], self._steps[slot])
            asked = self._handle.ask.remote(last, replica=self._replicas[slot])
            try:
                asked.result(timeout_s=self.reconnect.stall_seconds)
            except self._lost:
                asked.cancel()  # a replica that cannot be told forgets a stream that is silent


class FleetTracker(RemoteTracker):
    """One target, followed by a fleet: `init` on its first box, then `update` with every frame.

    Crops are cut here; each frame is one request to the replica that holds the stream's state.
    Where that one is gone, the stream is started again on another around its last box:
    `RemoteTrack.restarted` says so, and `restarts` counts. Use it in a `with`, or close it.

    Args:
        name: the application's name.
        color: "bgr" or "rgb", the order of the frames' channels.
        lost_rule: when the target counts as lost.
        reconnect: how long an answer is waited for (`stall_seconds`), and how often it is asked
            for again.

    Raises:
        InputError: an unknown colour order, or no such application.
        RuntimeUnavailable: no replica answers.
        MissingDependency: ray[serve] is not installed.
    """

    def __init__(
        self,
        name: str = APP,
        *,
        color: Literal["bgr", "rgb"],
        lost_rule: LostRule | None = None,
        reconnect: ReconnectPolicy | None = None,
    ) -> None:
        super().__init__(FleetRuntime(name, reconnect=reconnect), color=color, lost_rule=lost_rule)


def _find_app(name: str) -> Any:
    serve = import_serve()
    try:
        return serve.get_app_handle(name)
    except Exception as error:  # Serve's own, and what it raises without a cluster
        raise InputError(
            f"application {name} of Ray Serve",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected="one that runs on the cluster of this process",
            fix="`serve status` lists them",
        ) from None


def _list_losses() -> tuple[type[Exception], ...]:
    """What Ray raises where no answer came."""
    import_serve()
    core = import_silenced("ray.exceptions")
    serve = import_silenced("ray.serve.exceptions")
    lost = (core.GetTimeoutError, core.RayActorError, core.TaskCancelledError)
    return (TimeoutError, *lost, serve.RayServeException)
