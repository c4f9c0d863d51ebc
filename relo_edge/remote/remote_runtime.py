"""The Runtime protocol over a server: what the client keeps, and what it does when state is lost.

The server keeps each stream's temporal state. A request whose answer did not come may have moved
that state or not, so the stream is never continued on it: it is started again, and counted.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import STEP, describe_graph
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.families.registry import find_family
from relo_edge.last_step import LastStep
from relo_edge.runtime import ClosedOnExit, StepResult, check_slots, demand_open
from relo_edge.spec import TrackerProtocol, TrackerVariant
from relo_edge.video.live import ReconnectPolicy

__all__ = ["PATIENCE", "FrameAnswer", "RemoteRuntime", "RemoteSlot", "StateLost"]

log = logging.getLogger("relo_edge")

PATIENCE = ReconnectPolicy(stall_seconds=10.0)
"""A server that is busy with other streams answers late; a camera's three seconds are too few."""

Array = NDArray[np.float32]
Result = TypeVar("Result")


FrameAnswer = Mapping[str, Array]
"""The step graph's box, score and map for one picture, by name and without the batch."""


class StateLost(Exception):
    """A stream's state is gone, or nobody can say what it is; `unreachable` asks for patience."""

    def __init__(self, reason: object, *, unreachable: bool) -> None:
        super().__init__(" ".join(str(reason).split()))
        self.unreachable = unreachable


@dataclass
class RemoteSlot:
    """One stream as its client sees it."""

    has_history: float = 0.0
    rewound: bool = False
    """Whether the next request goes back to the state before the last one."""


class RemoteRuntime(ClosedOnExit, ABC):
    """Slots whose state lies on a server; each is a stream of its own there.

    Attributes:
        protocol: the tracker settings that the server was set up for.
        shared: what the step's `shared` input is fed, which the server's network has as well.
    """

    name: str
    precision: str
    device: str

    def __init__(
        self,
        variant: TrackerVariant,
        protocol: TrackerProtocol,
        batch: int,
        reconnect: ReconnectPolicy,
    ) -> None:
        if batch < 1:
            raise InputError("batch", found=batch, expected="1 or more")
        self.variant = variant
        self.protocol = protocol
        self.batch = batch
        self.reconnect = reconnect
        self.contract = describe_graph(variant, STEP)
        self.motion = find_family(variant.family).motion(variant, protocol)
        self.shared = self.motion.shared
        self._slots = [RemoteSlot() for _ in range(batch)]
        self._restarts = [0] * batch
        self._last = LastStep()

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: Array
    ) -> None:
        """Keep a template for the slot's next steps."""
        self._find(slot)
        self._wait_for(lambda: self._encode(slot, index, template, box))

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """Keep a target tensor for the slot's next steps."""
        self._find(slot)
        known = [spec.name for spec in self.contract.list_inputs("target")]
        if name not in known:
            raise InputError("target tensor", found=name, expected=" | ".join(known) or "none")
        self._set(slot, name, values)

    def forget(self, slot: int) -> None:
        """The slot's next step starts its stream again."""
        kept = self._find(slot)
        kept.has_history, kept.rewound = 0.0, False
        self._last.drop(slot)

    def rewind(self, slot: int) -> None:
        """The slot's next step goes from the state before its last one."""
        kept = self._find(slot)
        kept.has_history = self._last.take_back(slot)
        kept.rewound = kept.has_history > 0

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: Array | None
    ) -> StepResult:
        """One request for each slot, all at once; streams whose state is lost start again."""
        for slot in slots:
            self._find(slot)
        self._check_shared(shared)
        self._last.clear()
        answers: dict[int, FrameAnswer] = {}
        try:
            self._step_all(slots, pixels, answers)
        except BaseException as error:
            self._take_back(slots, answers, error)
            raise
        given = {
            spec.name: np.empty(spec.at_batch(len(slots)), np.float32)
            for spec in self.contract.list_outputs("box", "score", "map")
        }
        for row, answer in answers.items():
            for name, values in given.items():
                values[row] = answer[name]
        return StepResult.from_outputs(self.contract, given)

    def read_state(self, slot: int) -> dict[str, Array]:
        """Refused: the state never leaves the server."""
        self._find(slot)
        raise RuntimeUnavailable(
            f"the state stays on the server, {self.device}",
            fix="compare with a runtime of this machine",
        )

    def restarts(self, slot: int) -> int:
        """How often the slot's stream was started again because its state was lost."""
        check_slots([slot], self.batch)
        return self._restarts[slot]

    def close(self) -> None:
        """End all streams on the server and drop the connection; closing twice is fine."""
        if self._slots:
            self._end([index for index, slot in enumerate(self._slots) if slot.has_history])
            self._slots = []

    def _step_all(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], answers: dict[int, FrameAnswer]
    ) -> None:
        """Fill `answers`, by row; only rows whose state was lost are asked for again."""
        waiting, attempt = list(range(len(slots))), 0
        while waiting:
            asked = [slots[row] for row in waiting]
            results = self._ask(asked, pixels[waiting])
            lost: dict[int, StateLost] = {}
            refused: list[RuntimeUnavailable] = []
            for row, result in zip(waiting, results, strict=True):
                if isinstance(result, StateLost):
                    lost[row] = result
                    self._restart(slots[row], result)
                elif isinstance(result, RuntimeUnavailable):
                    refused.append(result)
                else:
                    answers[row] = result
                    self._note_step(slots[row])
            if refused:
                raise refused[0]
            waiting = list(lost)
            if waiting:
                attempt += 1
                self._pause(attempt, next(iter(lost.values())))

    def _take_back(
        self, slots: Sequence[int], answers: Mapping[int, FrameAnswer], error: BaseException
    ) -> None:
        """The caller has seen nothing of a step that failed: it must be as if it had not been."""
        for row, slot in enumerate(slots):
            if row in answers:
                self.rewind(slot)
            else:  # nobody knows what its request has done
                self._restart(slot, error)

    def _note_step(self, slot: int) -> None:
        kept = self._slots[slot]
        self._last.note(slot, kept.has_history)
        kept.has_history, kept.rewound = 1.0, False

    def _restart(self, slot: int, reason: BaseException) -> None:
        """The stream begins again on the next request: from its last box, with its templates."""
        kept = self._slots[slot]
        if kept.has_history and self.contract.states:
            self._restarts[slot] += 1
            log.warning("%s: stream %d starts again: %s", self.device, slot, reason)
        kept.has_history, kept.rewound = 0.0, False

    def _wait_for(self, call: Callable[[], Result]) -> Result:
        attempt = 0
        while True:
            try:
                return call()
            except StateLost as lost:
                attempt += 1
                self._pause(attempt, lost)

    def _pause(self, attempt: int, lost: StateLost) -> None:
        """Wait before the next attempt, or give up."""
        last = attempt > self.reconnect.attempts
        if lost.unreachable:
            time.sleep(0 if last else self.reconnect.delay_before(attempt))
            self._reopen()
        if last:
            raise RuntimeUnavailable(
                f"{self.device} does not answer after {attempt} attempts",
                found=lost,
                fix="see whether the server runs; the stream can be tried again",
            )

    def _check_shared(self, shared: Array | None) -> None:
        if shared is None or self.shared is None:
            same = shared is self.shared
        else:
            same = np.array_equal(shared, self.shared)
        if not same:
            raise InputError(
                f"window of {self.device}",
                found="another protocol's",
                expected=f"a window factor of {self.protocol.window_factor}",
                fix="give the tracker the runtime's own `protocol`",
            )

    def _find(self, slot: int) -> RemoteSlot:
        demand_open(self.name, self._slots)
        check_slots([slot], len(self._slots))
        return self._slots[slot]

    @abstractmethod
    def _encode(self, slot: int, index: int, template: NDArray[np.uint8], box: Array) -> None:
        """Take the template over; StateLost where the server cannot be reached."""

    @abstractmethod
    def _set(self, slot: int, name: str, values: Array) -> None:
        """Take a target tensor over."""

    @abstractmethod
    def _ask(
        self, slots: Sequence[int], pixels: NDArray[np.uint8]
    ) -> Sequence[FrameAnswer | StateLost | RuntimeUnavailable]:
        """One request for each slot, as its RemoteSlot stands; all are on their way at once.

        What becomes of one says nothing about the others: errors are results too.
        """

    @abstractmethod
    def _end(self, slots: Sequence[int]) -> None:
        """Tell the server that these streams are over, if it hears it, and disconnect."""

    def _reopen(self) -> None:
        """Connect again, where a connection does not mend itself."""
