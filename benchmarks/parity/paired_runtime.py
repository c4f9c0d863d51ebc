"""Two runtimes fed the same crops: what a candidate computes beside the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relo_edge.measures.tensor_errors import ErrorTally
from relo_edge.runtime import ClosedOnExit, Runtime, StepResult

__all__ = ["FrameNote", "FramePair", "StepCall", "TemplateCall", "TwinRuntime"]

KEPT = 6
"""Steps whose inputs are kept for a diagnosis: one without history, some with."""

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]


class TemplateCall(NamedTuple):
    """What one template was made of."""

    slot: int
    place: int
    crop: Pixels
    box: Array


class StepCall(NamedTuple):
    """What one step was fed; `fresh` when its target had no history."""

    slots: tuple[int, ...]
    crops: Pixels
    window: Array
    fresh: bool


@dataclass(frozen=True)
class FramePair:
    """One target's answers of one frame, by output name: the reference's and the candidate's."""

    reference: dict[str, Array]
    candidate: dict[str, Array]
    window: Array
    fresh: bool
    """Whether the target had no history yet."""

    def choose_cells(self) -> tuple[int, int]:
        """The cell that each side chooses."""
        first, second = (
            int(np.argmax(side["policy_logits"] * self.window))
            for side in (self.reference, self.candidate)
        )
        return first, second

    def agrees(self) -> bool:
        """Whether both choose the same cell."""
        first, second = self.choose_cells()
        return first == second

    def measure_margin(self) -> float:
        """By how much the reference prefers its cell to the next best."""
        windowed = np.sort((self.reference["policy_logits"] * self.window).ravel())
        return float(windowed[-1] - windowed[-2])

    def is_finite(self) -> bool:
        """Whether the candidate gave numbers."""
        return all(np.isfinite(array).all() for array in self.candidate.values())

    def measure_error(self, name: str) -> float:
        """An output's largest error beside the reference's largest entry; a box's as it is."""
        want, got = self.reference[name], self.candidate[name]
        largest = 1.0 if name == "box" else max(float(np.abs(want).max()), 1e-12)
        return float(np.abs(want - got).max()) / largest


@dataclass(frozen=True)
class FrameNote:
    """What is kept of every frame, however long the clip."""

    errors: dict[str, float]
    same_cell: bool
    margin: float
    finite: bool


@dataclass(eq=False)
class TwinRuntime(ClosedOnExit):
    """A runtime that answers as the reference does and notes what the candidate says."""

    reference: Runtime
    candidate: Runtime
    notes: list[FrameNote] = field(default_factory=list)
    first: dict[str, ErrorTally] = field(default_factory=lambda: defaultdict(ErrorTally))
    """By output, the errors of frames without history."""
    later: dict[str, ErrorTally] = field(default_factory=lambda: defaultdict(ErrorTally))
    pairs: list[FramePair] = field(default_factory=list)
    templates: list[TemplateCall] = field(default_factory=list)
    steps: list[StepCall] = field(default_factory=list)
    """Pairs and steps: the first few, for a diagnosis. A large variant's states fill the memory."""

    def __post_init__(self) -> None:
        self.name = f"{self.candidate.name} beside {self.reference.name}"
        self.precision = self.candidate.precision
        self.device = self.candidate.device
        self.variant = self.reference.variant
        self.batch = min(self.reference.batch, self.candidate.batch)
        self._known: set[int] = set()
        self._known_before: set[int] = set()

    def encode_template(self, slot: int, index: int, template: Pixels, box: Array) -> None:
        """In both."""
        if not self.steps:
            self.templates.append(TemplateCall(slot, index, template.copy(), box.copy()))
        self.reference.encode_template(slot, index, template, box)
        self.candidate.encode_template(slot, index, template, box)

    def forget(self, slot: int) -> None:
        """In both."""
        self._known.discard(slot)
        self.reference.forget(slot)
        self.candidate.forget(slot)

    def rewind(self, slot: int) -> None:
        """In both."""
        self.reference.rewind(slot)
        self.candidate.rewind(slot)
        if slot not in self._known_before:
            self._known.discard(slot)

    def step(self, slots: Sequence[int], searches: Pixels, window: Array) -> StepResult:
        """Step both on the same crops; each carries its own state."""
        fresh = not self._known.intersection(slots)
        if len(self.steps) < KEPT:
            self.steps.append(StepCall(tuple(slots), searches.copy(), window, fresh))
        answer = self.reference.step(slots, searches, window)
        other = self.candidate.step(slots, searches, window)
        self._known_before = set(self._known)
        self._known.update(slots)
        for row, slot in enumerate(slots):
            pair = FramePair(
                _collect_outputs(answer, row, self.reference.read_state(slot)),
                _collect_outputs(other, row, self.candidate.read_state(slot)),
                window,
                fresh,
            )
            self._note_pair(pair)
        return answer

    def _note_pair(self, pair: FramePair) -> None:
        errors = {name: pair.measure_error(name) for name in pair.reference}
        self.notes.append(FrameNote(errors, pair.agrees(), pair.measure_margin(), pair.is_finite()))
        tallies = self.first if pair.fresh else self.later
        for name in errors:
            tallies[name].add(pair.reference[name], pair.candidate[name])
        if len(self.pairs) < KEPT:
            self.pairs.append(pair)

    def read_state(self, slot: int) -> Array:
        """The reference's."""
        return self.reference.read_state(slot)

    def close(self) -> None:
        """The two belong to whoever opened them."""


def _collect_outputs(answer: StepResult, row: int, state: Array) -> dict[str, Array]:
    return {
        "box": answer.boxes[row],
        "score": answer.scores[row : row + 1],
        "policy_logits": answer.policy_logits[row],
        "temporal_tokens": state,
    }
