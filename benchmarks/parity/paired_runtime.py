"""Two runtimes fed the same crops: what a candidate computes beside the reference."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import STEP, GraphContract, describe_graph
from relo_edge.families.registry import find_family
from relo_edge.measures.gates import GATES
from relo_edge.measures.tensor_errors import ErrorTally
from relo_edge.runtime import ClosedOnExit, Runtime, StepResult

__all__ = [
    "FramePair",
    "FrameRecord",
    "Outputs",
    "PairedRuntime",
    "collect_outputs",
    "list_judged",
    "name_map",
]

KEPT_PAIRS = 6
"""Frames whose tensors are kept: a large variant's states of a long clip would fill the memory."""

Array = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Outputs = dict[str, Array]
"""One target's answer of one frame, by output name."""


@dataclass(frozen=True)
class FramePair:
    """What both sides answered to the same crop."""

    reference: Outputs
    candidate: Outputs
    window: Array | None
    fresh: bool
    """Whether the target had no history yet."""
    tolerance: float
    """How far a score of this precision may be from its map's windowed logit, by rounding."""
    cells: str | None
    """The name of the map; None where there is none, and with it no cell to choose."""

    @property
    def reference_cell(self) -> int:
        """The cell with the reference's largest windowed logit."""
        return int(np.argmax(self.apply_window(self.reference)))

    def apply_window(self, side: Outputs) -> Array:
        """A side's windowed map."""
        assert self.cells is not None
        assert self.window is not None
        return np.asarray(side[self.cells] * self.window)

    @property
    def candidate_cell(self) -> int:
        """The cell that the candidate chose, by its own score and box, not by its logits alone.

        The score is the windowed logit of the chosen cell. Where several cells come that close to
        the score, the box decides whether the reference's cell is the one.
        """
        windowed = self.apply_window(self.candidate).ravel()
        distance = np.abs(windowed - self.candidate["score"][0])
        distance[~np.isfinite(distance)] = np.inf
        nearest, expected = int(np.argmin(distance)), self.reference_cell
        if distance[expected] > self.tolerance * self._find_largest():
            return nearest
        others = distance <= self.tolerance * self._find_largest()
        alone = np.count_nonzero(others) == 1
        near = self.measure_error("box") < 0.5 / np.sqrt(windowed.size)
        return expected if alone or near or nearest == expected else nearest

    @property
    def same_cell(self) -> bool:
        """Whether both chose the same cell; they do where there is no choice."""
        return self.cells is None or self.candidate_cell == self.reference_cell

    @property
    def margin(self) -> float:
        """By how much the reference prefers its cell to the next best."""
        if self.cells is None:
            return 0.0
        windowed = np.sort(self.apply_window(self.reference).ravel())
        return float(windowed[-1] - windowed[-2])

    @property
    def finite(self) -> bool:
        """Whether the candidate gave numbers."""
        return all(np.isfinite(array).all() for array in self.candidate.values())

    @property
    def score_error(self) -> float:
        """The score's error, divided by the reference's largest logit.

        A window never exceeds 1, so this is at most the error of the logits if the score is right.
        """
        if self.cells is None:
            return self.measure_error("score") if "score" in self.reference else 0.0
        error = np.abs(self.candidate["score"][0] - self.reference["score"][0])
        return float(error) / max(float(np.abs(self.reference[self.cells]).max()), 1e-12)

    @property
    def choice_error(self) -> float:
        """How far the score is from the largest windowed logit of the candidate's own map."""
        if self.cells is None:
            return 0.0
        best = self.apply_window(self.candidate).max()
        return float(np.abs(self.candidate["score"][0] - best)) / self._find_largest()

    def measure_error(self, name: str) -> float:
        """An output's largest error beside the reference's largest entry; a box's as it is."""
        want, got = self.reference[name], self.candidate[name]
        largest = 1.0 if name == "box" else max(float(np.abs(want).max()), 1e-12)
        return float(np.abs(want - got).max()) / largest

    def _find_largest(self) -> float:
        assert self.cells is not None
        return max(float(np.abs(self.candidate[self.cells]).max()), 1e-12)


@dataclass(frozen=True)
class FrameRecord:
    """What is kept of every frame, however long the clip."""

    errors: dict[str, float]
    same_cell: bool
    margin: float
    finite: bool
    score_error: float
    choice_error: float

    @classmethod
    def from_pair(cls, pair: FramePair) -> FrameRecord:
        """Everything measured of a pair, without its tensors."""
        return cls(
            {name: pair.measure_error(name) for name in pair.reference},
            pair.same_cell,
            pair.margin,
            pair.finite,
            pair.score_error,
            pair.choice_error,
        )


@dataclass(eq=False)
class PairedRuntime(ClosedOnExit):
    """A runtime that answers as the reference does and records what the candidate says."""

    reference: Runtime
    candidate: Runtime
    records: list[FrameRecord] = field(default_factory=list)
    first: dict[str, ErrorTally] = field(default_factory=lambda: defaultdict(ErrorTally))
    """By output, the errors of frames without history."""
    later: dict[str, ErrorTally] = field(default_factory=lambda: defaultdict(ErrorTally))
    pairs: list[FramePair] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.name = f"{self.candidate.name} beside {self.reference.name}"
        self.precision = self.candidate.precision
        self.device = self.candidate.device
        self.variant = self.reference.variant
        self.batch = min(self.reference.batch, self.candidate.batch)
        self.contract = describe_graph(self.variant, STEP)
        motion = find_family(self.variant.family).motion(self.variant, self.variant.protocol())
        self._steps_first_frame = motion.steps_first_frame
        self._known: set[int] = set()
        self._known_before: set[int] = set()

    def encode_template(self, slot: int, index: int, template: Pixels, box: Array) -> None:
        """In both."""
        self.reference.encode_template(slot, index, template, box)
        self.candidate.encode_template(slot, index, template, box)

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """In both."""
        self.reference.set_target(slot, name, values)
        self.candidate.set_target(slot, name, values)

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

    def step(self, slots: Sequence[int], pixels: Pixels, shared: Array | None) -> StepResult:
        """Step both on the same crops; each carries its own state."""
        fresh = not self._known.intersection(slots)
        answer = self.reference.step(slots, pixels, shared)
        other = self.candidate.step(slots, pixels, shared)
        self._known_before = set(self._known)
        self._known.update(slots)
        for row, slot in enumerate(slots):
            pair = FramePair(
                collect_outputs(self.contract, answer, row, self.reference.read_state(slot)),
                collect_outputs(self.contract, other, row, self.candidate.read_state(slot)),
                shared,
                fresh,
                GATES[self.precision].choice,
                name_map(self.contract),
            )
            self._record_pair(pair)
        return answer

    def _record_pair(self, pair: FramePair) -> None:
        tallies = self.first if pair.fresh else self.later
        for name in pair.reference:
            tallies[name].add(pair.reference[name], pair.candidate[name])
        if pair.fresh and self._steps_first_frame:
            return  # what it answered is not asked for: the box of that frame is given
        self.records.append(FrameRecord.from_pair(pair))
        if len(self.pairs) < KEPT_PAIRS:
            self.pairs.append(pair)

    def read_state(self, slot: int) -> Outputs:
        """The reference's."""
        return self.reference.read_state(slot)

    def close(self) -> None:
        """The two belong to whoever opened them."""


def collect_outputs(
    contract: GraphContract, answer: StepResult, row: int, state: Outputs
) -> Outputs:
    """One row of a runtime's answer, and its target's new state."""
    outputs = {"box": answer.boxes[row]}
    if contract.find_output("score"):
        outputs["score"] = answer.scores[row : row + 1]
    cells = name_map(contract)
    if cells is not None and answer.maps is not None:
        outputs[cells] = answer.maps[row]
    return outputs | state


def name_map(contract: GraphContract) -> str | None:
    """What the graph calls its map, where it has one."""
    found = contract.find_output("map")
    return found.name if found else None


def list_judged(contract: GraphContract) -> tuple[str, ...]:
    """The outputs that are judged as tensors: the map, or the box without one, and the state."""
    return (name_map(contract) or "box", *(state.before.name for state in contract.states))
