"""The streams of one replica: which slot of its runtime is whose, and what its state is of."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import STEP, describe_graph
from relo_edge.errors import ReloError
from relo_edge.families.registry import find_family
from relo_edge.fleet.messages import Ask, Refusal, TemplateCrop
from relo_edge.remote.remote_runtime import FrameAnswer
from relo_edge.runtime import Runtime, StepResult
from relo_edge.spec import TrackerProtocol

__all__ = ["IDLE_SECONDS", "Reply", "StreamTable"]

IDLE_SECONDS = 60.0
"""A stream that has sent nothing for so long makes room when there is none."""

Reply = FrameAnswer | Refusal | ReloError | None
"""None says that a stream has ended."""


@dataclass
class _HeldStream:
    slot: int
    steps: int
    heard: float


class StreamTable:
    """Answers requests of up to `runtime.batch` streams; not for several threads at once."""

    def __init__(self, runtime: Runtime, protocol: TrackerProtocol) -> None:
        variant = runtime.variant
        self._runtime = runtime
        self._motion = find_family(variant.family).motion(variant, protocol)
        step = describe_graph(variant, STEP)
        self._target = {*range(self._motion.templates)} | {
            spec.name for spec in step.list_inputs("target") if not self._motion.templates
        }
        self._names = [spec.name for spec in step.list_outputs("box", "score", "map")]
        self._parts = [spec.role for spec in step.list_outputs("box", "score", "map")]
        self._streams: dict[str, _HeldStream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def answer(self, asks: Sequence[Ask]) -> list[Reply]:
        """Answer each, in one step wherever that can be; errors are answers too.

        A stream that is named twice is answered in order: the second is often a client's second
        try, after it has given up the first.
        """
        replies: list[Reply] = [None] * len(asks)
        waiting = list(range(len(asks)))
        while waiting:
            first: dict[str, int] = {}
            for row in waiting:
                first.setdefault(asks[row].stream, row)
            rows = list(first.values())
            for row, reply in zip(rows, self._answer_once([asks[r] for r in rows]), strict=True):
                replies[row] = reply
            waiting = [row for row in waiting if row not in rows]
        return replies

    def _answer_once(self, asks: Sequence[Ask]) -> list[Reply]:
        """All are of different streams."""
        replies: list[Reply] = [self._prepare(ask) for ask in asks]
        stepped = [
            row for row, ask in enumerate(asks) if replies[row] is None and ask.pixels is not None
        ]
        if stepped:
            for row, reply in zip(stepped, self._step([asks[r] for r in stepped]), strict=True):
                replies[row] = reply
        return replies

    def _prepare(self, ask: Ask) -> Refusal | ReloError | None:
        """Everything up to the step; None where nothing speaks against it."""
        if ask.pixels is None:
            self._streams.pop(ask.stream, None)
            return None
        try:
            return self._start(ask) if ask.steps == 0 else self._continue(ask)
        except ReloError as error:
            self._streams.pop(ask.stream, None)
            return error

    def _start(self, ask: Ask) -> Refusal | None:
        if not self._target <= set(ask.target):
            return Refusal("a stream starts with all of its target")
        stream = self._streams.get(ask.stream) or self._make_room()
        if stream is None:
            reason = f"{len(self)} streams are open, which is all that there is room for"
            return Refusal(reason, full=True)
        self._streams[ask.stream] = stream
        self._runtime.forget(stream.slot)
        self._set_target(stream, ask)
        return None

    def _continue(self, ask: Ask) -> Refusal | None:
        stream = self._streams.get(ask.stream)
        if stream is None:
            return Refusal("the replica does not hold the stream")
        if stream.steps != ask.steps:
            found = f"{stream.steps} steps here, {ask.steps} at the client"
            return Refusal(f"the stream's state is another: {found}")
        self._set_target(stream, ask)
        return None

    def _set_target(self, stream: _HeldStream, ask: Ask) -> None:
        for place, part in ask.target.items():
            if isinstance(part, TemplateCrop):
                self._runtime.encode_template(stream.slot, int(place), part.crop, part.box)
            else:
                self._runtime.set_target(stream.slot, str(place), part)
        stream.steps, stream.heard = ask.steps, time.monotonic()

    def _make_room(self) -> _HeldStream | None:
        """A free slot, or that of the stream that has been silent for longest, if it has."""
        taken = {stream.slot for stream in self._streams.values()}
        free = next((n for n in range(self._runtime.batch) if n not in taken), None)
        if free is None:
            name, silent = min(self._streams.items(), key=lambda entry: entry[1].heard)
            if time.monotonic() - silent.heard < IDLE_SECONDS:
                return None
            del self._streams[name]
            free = silent.slot
        return _HeldStream(free, 0, time.monotonic())

    def _step(self, asks: Sequence[Ask]) -> list[Reply]:
        """One step of all; whoever's answer is not finite keeps the state that it had."""
        streams = [self._streams[ask.stream] for ask in asks]
        pixels = np.stack([ask.pixels for ask in asks if ask.pixels is not None])
        slots = [stream.slot for stream in streams]
        try:
            step = self._runtime.step(slots, pixels, self._motion.shared)
        except ReloError as error:  # what has become of the states, nobody knows
            for ask in asks:
                del self._streams[ask.stream]
            return [error] * len(asks)
        replies: list[Reply] = []
        for row, stream in enumerate(streams):
            if self._is_finite(step, row):
                stream.steps += 1
            else:
                self._runtime.rewind(stream.slot)
            replies.append(self._read_row(step, row))
        return replies

    def _is_finite(self, step: StepResult, row: int) -> bool:
        """As MultiTracker judges it, which will take such a step back."""
        told = [*step.boxes[row]]
        if "score" in self._parts:
            told.append(step.scores[row])
        if self._motion.has_confidence and step.maps is not None:
            told.append(self._motion.measure_confidence(step.maps[row]))
        return all(map(math.isfinite, told))

    def _read_row(self, step: StepResult, row: int) -> FrameAnswer:
        parts: dict[str, NDArray[np.float32] | None] = {
            "box": step.boxes,
            "score": step.scores,
            "map": step.maps,
        }
        given = {name: parts[role] for name, role in zip(self._names, self._parts, strict=True)}
        return {name: np.array(part[row]) for name, part in given.items() if part is not None}
