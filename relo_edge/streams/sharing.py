"""One runtime for several trackers, each on a thread of its own: their steps become one batch."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError
from relo_edge.geometry import Box
from relo_edge.runtime import ClosedOnExit, Runtime, StepResult
from relo_edge.tracker import Frame, MultiTracker, Track

__all__ = ["WAIT_SECONDS", "RuntimeShare", "SharedRuntime", "StreamTracker", "count_lanes"]

WAIT_SECONDS = 0.002
"""How long a step waits for sources of the step before: a silent one is waited for once."""

Array = NDArray[np.float32]


def count_lanes(sources: int, threads: int | None) -> int:
    """How many sources a CPU computes side by side: all, but for a limit on its threads.

    More than there are cores: while one source's thread waits for Python's lock, another computes.
    """
    return min(sources, threads) if threads else sources


@dataclass(eq=False)
class _Request:
    """One source's part in a step."""

    share: RuntimeShare
    slots: list[int]
    pixels: NDArray[np.uint8]
    window: Array | None
    since: float = field(default_factory=time.monotonic)
    answer: StepResult | None = None
    error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self.answer is not None or self.error is not None


class SharedRuntime:
    """Hands out shares of a runtime, and steps what several of them ask for as one batch.

    A step takes whatever is asked for when the one before has ended. It waits `wait` seconds at
    most, and only for shares that took part in that one. The thread that asked first runs it. A
    runtime with several lanes takes each share's step as it comes instead.

    The runtime is its opener's to close.
    """

    def __init__(self, runtime: Runtime, wait: float = WAIT_SECONDS) -> None:
        if not (math.isfinite(wait) and wait >= 0):
            raise InputError("wait", found=wait, expected="0 seconds or more")
        self.runtime = runtime
        self.in_lanes = getattr(runtime, "lanes", 1) > 1
        self._wait = wait
        self._changed = threading.Condition()
        self._busy = False
        self._waiting: list[_Request] = []
        self._expected: set[RuntimeShare] = set()
        """Who took part in the last step."""
        self._unsettled: set[RuntimeShare] = set()
        """Who may still take that step back, which another step would make impossible."""
        self._free_slots = list(range(runtime.batch))

    def share(self, targets: int = 0, most: int | None = None) -> RuntimeShare:
        """A share for one more tracker, with slots for so many targets.

        Others come on demand, until the share has `most` or the runtime has no more.

        Raises:
            InputError: there are not so many slots.
        """
        return RuntimeShare(self, self.take_slots(targets), most or self.runtime.batch)

    def take_slots(self, count: int) -> list[int]:
        """Slots of the runtime that no share has.

        Raises:
            InputError: there are not so many.
        """
        with self._changed:
            if count > len(self._free_slots):
                raise InputError(
                    "targets of all sources",
                    found=self.runtime.batch - len(self._free_slots) + count,
                    expected=f"at most {self.runtime.batch}",
                    fix="open the runtime with a larger batch",
                )
            taken, self._free_slots = self._free_slots[:count], self._free_slots[count:]
            return taken

    def free_slots(self, slots: Sequence[int]) -> None:
        """Take slots back."""
        with self._changed:
            self._free_slots = sorted([*self._free_slots, *slots])

    def step(
        self,
        share: RuntimeShare,
        slots: list[int],
        pixels: NDArray[np.uint8],
        window: Array | None,
    ) -> StepResult:
        """The share's part of the next step."""
        if self.in_lanes:
            return self.runtime.step(slots, pixels, window)
        request = _Request(share, slots, pixels, window)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
            while not request.done:
                delay = self._find_delay()
                if delay == 0:
                    self._run_batch()
                else:
                    self._changed.wait(delay)
        if request.error is not None:
            raise request.error
        assert request.answer is not None
        return request.answer

    def settle(self, share: RuntimeShare) -> None:
        """The share takes its last step back no more."""
        with self._changed:
            self._unsettled.discard(share)
            self._changed.notify_all()

    def leave(self, share: RuntimeShare) -> None:
        """The share is waited for no more."""
        with self._changed:
            self._expected.discard(share)
            self._unsettled.discard(share)
            self._changed.notify_all()

    @contextmanager
    def use_alone(self) -> Iterator[Runtime]:
        """The runtime, while no step runs."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy)
            self._busy = True
        try:
            yield self.runtime
        finally:
            self._end_use()

    def _end_use(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def _find_delay(self) -> float | None:
        """Seconds until a step is due; None while only a change can make one due."""
        if self._busy or self._unsettled or not self._waiting:
            return None
        missing = self._expected - {request.share for request in self._waiting}
        waited = time.monotonic() - self._waiting[0].since
        return max(self._wait - waited, 0.0) if missing else 0.0

    def _run_batch(self) -> None:
        """Step what waits, with the lock let go meanwhile; trackers of other settings come next."""
        window = self._waiting[0].window
        batch = [one for one in self._waiting if _is_same(one.window, window)]
        self._waiting = [one for one in self._waiting if one not in batch]
        self._expected = {one.share for one in batch}
        self._unsettled = set(self._expected)
        self._busy = True
        self._changed.release()
        try:
            _step_together(self.runtime, batch)
        finally:
            self._changed.acquire()
            self._busy = False
            self._changed.notify_all()


def _is_same(one: Array | None, other: Array | None) -> bool:
    return one is other if one is None or other is None else np.array_equal(one, other)


def _step_together(runtime: Runtime, batch: Sequence[_Request]) -> None:
    """One step of the runtime; each request gets its rows, or the error that ended all."""
    slots = [slot for one in batch for slot in one.slots]
    alone = len(batch) == 1
    pixels = batch[0].pixels if alone else np.concatenate([one.pixels for one in batch])
    try:
        answer = runtime.step(slots, pixels, batch[0].window)
    except BaseException as error:
        for one in batch:
            one.error = error
        return
    first = 0
    for one in batch:
        rows = slice(first, first := first + len(one.slots))
        maps = None if answer.maps is None else answer.maps[rows]
        one.answer = StepResult(answer.boxes[rows], answer.scores[rows], maps)


class RuntimeShare(ClosedOnExit):
    """A runtime as one tracker sees it: slots of its own, counted from 0."""

    def __init__(self, shared: SharedRuntime, reserved: list[int], batch: int) -> None:
        runtime = shared.runtime
        self.name, self.precision, self.device = runtime.name, runtime.precision, runtime.device
        self.variant, self.batch = runtime.variant, batch
        self._shared, self._reserved = shared, reserved
        self._slots: dict[int, int] = {}
        """The runtime's slot for each of the share's."""

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: Array
    ) -> None:
        """Keep a template in the slot, which is the share's from now on."""
        place = self._place(slot)
        with self._shared.use_alone() as runtime:
            runtime.encode_template(place, index, template, box)

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """Set a target tensor of the slot, which is the share's from now on."""
        place = self._place(slot)
        with self._shared.use_alone() as runtime:
            runtime.set_target(place, name, values)

    def forget(self, slot: int) -> None:
        """Drop the slot's history."""
        place = self._place(slot)
        with self._shared.use_alone() as runtime:
            runtime.forget(place)

    def rewind(self, slot: int) -> None:
        """Take the last step back for this slot; before `settle`."""
        with self._shared.use_alone() as runtime:
            runtime.rewind(self._slots[slot])

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: Array | None
    ) -> StepResult:
        """Localize each slot's target, together with what other shares ask for."""
        return self._shared.step(self, [self._slots[slot] for slot in slots], pixels, shared)

    def read_state(self, slot: int) -> dict[str, Array]:
        """A copy of what the slot carries."""
        with self._shared.use_alone() as runtime:
            return runtime.read_state(self._slots[slot])

    def _place(self, slot: int) -> int:
        """The runtime's slot, taken when it is first needed."""
        if slot not in self._slots:
            reserved = self._reserved or self._shared.take_slots(1)
            self._slots[slot] = reserved.pop(0)
        return self._slots[slot]

    def settle(self) -> None:
        """Nothing of the last step is taken back any more: the next one may begin."""
        self._shared.settle(self)

    def free(self, slot: int) -> None:
        """Give a slot back."""
        self._shared.free_slots([self._slots.pop(slot)])

    def close(self) -> None:
        """Give every slot back; the runtime stays open for the others."""
        self._shared.leave(self)
        self._shared.free_slots([*self._slots.values(), *self._reserved])
        self._slots.clear()
        self._reserved.clear()


class StreamTracker(MultiTracker):
    """A tracker on a share: it says when its part in a step is over, and which slots are free."""

    runtime: RuntimeShare

    def add(self, frame: Frame, box: Box) -> int:
        """Start a target at its box in this frame, which some families take a step for."""
        try:
            return super().add(frame, box)
        finally:
            self.runtime.settle()

    def update(self, frame: Frame) -> dict[int, Track]:
        """Track all targets into the next frame."""
        try:
            return super().update(frame)
        finally:
            self.runtime.settle()

    def remove(self, target: int) -> None:
        """Stop tracking a target and free its slot for any source."""
        slot = self._targets[target].slot if target in self._targets else None
        super().remove(target)
        if slot is not None:
            self.runtime.free(slot)
