"""Why a candidate is not the same tracker: the steps tell the part, experiments the mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relo_edge.benchmarks.parity.mistakes import Explanation, explain_outputs
from relo_edge.benchmarks.parity.output_mistakes import (
    explain_box,
    explain_cells,
    explain_map,
    explain_score,
)
from relo_edge.benchmarks.parity.paired_runtime import FramePair, FrameRecord, list_judged
from relo_edge.benchmarks.parity.pixel_mistakes import list_input_mistakes
from relo_edge.benchmarks.parity.probes import FIRST, ProbeRun, Stepper
from relo_edge.benchmarks.parity.state_mistakes import list_state_mistakes
from relo_edge.measures.gates import ParityGate, judge_outputs
from relo_edge.measures.tensor_errors import ErrorTally

__all__ = ["Cause", "find_causes"]


@dataclass(frozen=True)
class Cause:
    """What a failure comes from."""

    part: str
    what: str
    error: float | None = None
    """The error that was found."""
    left: float | None = None
    """What is left of it when the reference makes the same mistake."""
    exact: bool = True
    """Whether this names the mistake; otherwise it names the part alone."""

    @classmethod
    def from_explanation(cls, found: Explanation) -> Cause:
        """A mistake that was made in the reference on purpose."""
        return cls(found.part, found.what, found.error, found.left)

    def describe(self) -> str:
        """A line."""
        line = f"  {self.part}: {self.what}"
        if self.error is None or self.left is None:
            return line
        return (
            f"{line} (the same mistake in the reference: error {self.error:.1e} → {self.left:.1e})"
        )


@dataclass(frozen=True)
class _Case:
    """A failed candidate's probes beside the reference that made them."""

    reference: Stepper
    run: ProbeRun
    gate: ParityGate

    @property
    def told(self) -> str:
        """The output that tells most: the map, or the box where there is none."""
        return self.judged[0]

    @property
    def judged(self) -> tuple[str, ...]:
        """It and the state: what the next frame depends on."""
        return list_judged(self.run.contract)

    def differs(self, pairs: Sequence[FramePair], name: str) -> bool:
        """Whether an output is beyond the gate in these frames."""
        return bool(judge_outputs(self.gate, {name: _sum_up(pairs, name).sum_up()}))

    def select(self, fresh: bool) -> list[FramePair]:
        """The steps without history, or those with it."""
        return [pair for pair in self.run.pairs if pair.fresh == fresh]


def find_causes(
    reference: Stepper,
    run: ProbeRun,
    records: Sequence[FrameRecord],
    gate: ParityGate,
) -> tuple[Cause, ...]:
    """What a failed comparison comes from, the likeliest first; exact where a mistake is proven.

    The records are those of the clips' frames, for faults that no probe shows.
    """
    case = _Case(reference, run, gate)
    causes = _find_broken_numbers(run)
    if not causes and case.differs(case.select(fresh=True), case.told):
        causes = [_judge_inputs(case)]
    if not causes:
        causes = _judge_state(case)
    if not causes and run.pairs[0].cells:
        causes = _judge_choice(case)
        causes += _judge_boxes(case, [cause.what for cause in causes])
    if not causes and run.slots:
        causes = _judge_slots(case)
    return tuple(causes or [_judge_clips(records, case)])


def _sum_up(pairs: Sequence[FramePair], name: str) -> ErrorTally:
    tally = ErrorTally()
    for pair in pairs:
        tally.add(pair.reference[name], pair.candidate[name])
    return tally


def _find_broken_numbers(run: ProbeRun) -> list[Cause]:
    for step, pair in zip(run.steps, run.pairs, strict=True):
        for name, values in pair.candidate.items():
            if not np.isfinite(values).all():
                what = f"{name} is not finite on the {step.scene} target, {step.label}"
                return [Cause("numbers", f"{what}: an overflow, or a broken kernel")]
    return []


def _judge_inputs(case: _Case) -> Cause:
    """The first frames are wrong already: pixels, the template's box, weights."""
    fresh = [(s, p) for s, p in zip(case.run.steps, case.run.pairs, strict=True) if p.fresh]
    fresh = [(step, pair) for step, pair in fresh if step.label == FIRST]
    pairs = [pair for _, pair in fresh]
    found = explain_map(case.run.pairs) if case.run.pairs[0].cells else None
    found = found or explain_outputs(
        case.run.contract,
        case.reference,
        [step for step, _ in fresh],
        pairs,
        list_input_mistakes(),
        [case.told],
    )
    found = found or _explain_state(case)
    if found is not None:
        return Cause.from_explanation(found)
    wrong = [step.scene for step, pair in fresh if case.differs([pair], case.told)]
    where = "" if len(wrong) == len(fresh) else f" on these targets: {', '.join(wrong)}"
    what = f"first frames are wrong{where}; no known mistake with what goes in explains it"
    return Cause("weights", f"{what}: other weights, or a layer at fault", exact=False)


def _explain_state(case: _Case) -> Explanation | None:
    """A mistake with the state, judged on all that happens to one target."""
    chosen = [step.scene == case.run.steps[0].scene for step in case.run.steps]
    # The second target shows what the first has left behind.
    count = sum(chosen) + 1
    steps, pairs = case.run.steps[:count], case.run.pairs[:count]
    for names in (case.judged, case.judged[:1]):
        mistakes = list_state_mistakes(case.run.contract)
        found = explain_outputs(case.run.contract, case.reference, steps, pairs, mistakes, names)
        if found is not None:
            return found
    return None


def _judge_state(case: _Case) -> list[Cause]:
    """First frames are right; what is wrong only after them comes from what is kept."""
    later = case.select(fresh=False)
    fresh = case.select(fresh=True)
    if not any(case.differs(pairs, name) for pairs in (fresh, later) for name in case.judged):
        return []
    found = _explain_state(case)
    if found is not None:
        return [Cause.from_explanation(found)]
    states = case.judged[1:]
    if states and not any(p.candidate[name].any() for p in case.run.pairs for name in states):
        return [Cause("temporal state", "all zeros: what the graph gives out is not kept")]
    labels = [
        step.label
        for step, pair in zip(case.run.steps, case.run.pairs, strict=True)
        if any(case.differs([pair], name) for name in case.judged)
    ]
    what = f"first frames agree, these do not: {', '.join(dict.fromkeys(labels))}"
    if any(case.differs(fresh, name) for name in states):
        what = "the first frame's logits agree, the state that it leaves behind does not"
    return [Cause("temporal state", what, exact=False)]


def _judge_choice(case: _Case) -> list[Cause]:
    """Logits agree; is the cell chosen as it should be, and is the score that cell's?"""
    pairs = case.run.pairs
    if max(pair.choice_error for pair in pairs) <= case.gate.choice:
        return []
    found = explain_score(case.run.steps, pairs)
    if found is None:
        return [Cause("score", "not the windowed logit of any cell", exact=False)]
    return [Cause.from_explanation(found)]


def _judge_boxes(case: _Case, likely: Sequence[str]) -> list[Cause]:
    """Boxes that are wrong although the logits agree: the cell, the maps, or how they are read."""
    pairs = case.run.pairs
    if max(pair.measure_error("box") for pair in pairs) <= case.gate.box:
        return []
    found = [
        explain_cells(case.run.contract, case.reference, case.run.steps, pairs, likely),
        explain_box(pairs),
    ]
    known = [explanation for explanation in found if explanation is not None]
    if known:
        return [Cause.from_explanation(min(known, key=lambda one: one.left))]
    what = "logits agree, boxes do not: the size or offset head, or their decoding"
    return [Cause("box", what, exact=False)]


def _judge_slots(case: _Case) -> list[Cause]:
    """Right alone, wrong beside another target."""
    slots = case.run.slots
    if not any(case.differs(slots, name) for name in case.judged) and not any(
        pair.measure_error("box") > case.gate.box for pair in slots
    ):
        return []
    mates = [slots[row ^ 1] for row in range(len(slots))]
    crossed = [
        _measure_crossed(pair, mate, case.told) < case.gate.relative
        for pair, mate in zip(slots, mates, strict=True)
    ]
    if any(crossed):
        return [Cause("slots", "two targets' answers are swapped")]
    fresh = [pair for pair in slots if pair.fresh]
    if case.differs(fresh, case.told):
        return [Cause("slots", "two targets' templates or crops are mixed up")]
    return [Cause("slots", "two targets' temporal states are mixed up")]


def _measure_crossed(pair: FramePair, mate: FramePair, name: str) -> float:
    want, got = mate.reference[name], pair.candidate[name]
    return float(np.abs(want - got).max()) / max(float(np.abs(want).max()), 1e-12)


def _judge_clips(records: Sequence[FrameRecord], case: _Case) -> Cause:
    """Every probe is right: what is wrong needs more frames than those."""
    for number, record in enumerate(records):
        if not record.finite:
            what = f"an output is not finite from frame {number + 1} of the clips on"
            return Cause("numbers", f"{what}: an overflow, or a broken kernel")
    for number, record in enumerate(records):
        if any(not record.errors[name] <= case.gate.relative for name in case.judged):
            what = f"right in every probe, wrong from frame {number + 1} of the clips on"
            return Cause("many frames", f"{what}: something that adds up, or happens only then")
    what = "outputs agree on the same crops; small differences decide between cells of like value"
    return Cause("near ties", what)
