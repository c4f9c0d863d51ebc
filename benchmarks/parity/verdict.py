"""Is it the same tracker: a runtime beside the reference, tensor by tensor and in closed loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from relo_edge.benchmarks.parity.causes import Cause, find_causes
from relo_edge.benchmarks.parity.layer_errors import LayerWalk
from relo_edge.benchmarks.parity.paired_runtime import FramePair, FrameRecord, list_judged
from relo_edge.benchmarks.parity.probes import ProbeRun
from relo_edge.benchmarks.parity.rollout import Rollout
from relo_edge.benchmarks.parity.worst_frames import Picture, draw_worst_frames
from relo_edge.errors import InputError
from relo_edge.geometry import Flags
from relo_edge.measures.gates import (
    GATES,
    ParityGate,
    StartSensitivity,
    find_on_target,
    judge_outputs,
    judge_track,
    select_on_target,
)
from relo_edge.measures.tensor_errors import ErrorTally, OutputError

__all__ = [
    "ClipParity",
    "Divergence",
    "FrameParity",
    "ParityResult",
    "ProbeParity",
    "add_layers",
    "find_gate",
    "judge_parity",
]

ENOUGH_ON_TARGET = 0.5
"""The share of frames in which the reference must be on its target for the track to be judged."""


@dataclass(frozen=True)
class FrameParity:
    """One frame: errors on the same crop, each side with its own state, and the closed loop."""

    frame: int
    """The clip's frame, the first being 0."""
    errors: dict[str, float]
    """By output, relative to its largest entry; of the box in crop sides."""
    same_cell: bool
    margin: float
    iou: float


@dataclass(frozen=True)
class ClipParity:
    """One clip, from the frame after the start frame on."""

    name: str
    frames: list[FrameParity]
    reference_iou: float | None
    """The reference's own overlap with the truth, where there is one."""


@dataclass(frozen=True)
class Divergence:
    """The first frame in which the two choose different cells."""

    clip: int
    frame: int
    margin: float
    """By how much the reference preferred its cell: small means a near tie."""


@dataclass(frozen=True)
class ProbeParity:
    """Scripted steps on hard targets with random windows."""

    steps: int
    slots: int
    """Targets that were stepped together: 1 where the candidate holds no more."""
    outputs: dict[str, OutputError]
    score_error: float
    choice_error: float
    box_error: float
    """The largest, or the mean for a lower precision: a random window picks wild boxes, too."""


@dataclass(frozen=True)
class ParityResult:
    """What was found, and whether the gate of that precision is met."""

    runtime: str
    precision: str
    frames: int
    outputs: dict[str, OutputError]
    argmax_agreement: float
    """Over the judged frames, as the closed loop is."""
    judged_frames: int
    """Those in which the reference is on its target, or the truth is not known."""
    judged: bool
    """Whether cells and track are: not where the reference itself has lost its target."""
    box_error: float | None
    """The largest error of a box where both choose the same cell; None where they never do."""
    score_error: float
    """The largest error of a score, divided by the reference's largest logit."""
    choice_error: float
    """How far scores are from the largest windowed logit of their own map."""
    closed_loop_iou: float
    start_sensitivity: StartSensitivity
    """The same of the reference with itself, from perturbed starts."""
    reference_iou: float | None
    """The reference's own overlap with the truth."""
    first_divergence: Divergence | None
    probe: ProbeParity
    gate: ParityGate
    """The limits."""
    failures: tuple[str, ...]
    causes: tuple[Cause, ...]
    """What a failure comes from, the likeliest first."""
    clips: list[ClipParity]
    pictures: list[Picture]
    """The frames in which the two trackers lie furthest apart."""
    told: str
    """The output that tells most: the map, or the box where there is none."""
    states: tuple[str, ...]
    """What is carried from frame to frame."""
    layers: LayerWalk | None = None
    """The nodes in which an error begins, when the graphs were compared."""

    @property
    def passed(self) -> bool:
        """Whether it is the same tracker."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        layers = self.layers.to_dict() if self.layers else None
        plain = asdict(replace(self, layers=None))
        del plain["told"], plain["states"]
        return {"passed": self.passed, **plain, "layers": layers}

    def describe(self) -> str:
        """A table and a verdict."""
        lines = [f"{self.runtime} {self.precision} beside pytorch, {self.frames} frames"]
        lines.append(f"  {'output':<16}{'max abs':>10}{'relative':>10}{'cosine':>10}")
        for name, e in self.outputs.items():
            lines.append(f"  {name:<16}{e.max_abs:>10.1e}{e.relative:>10.1e}{e.cosine:>10.6f}")
        lines.append(f"  {self._describe_drift()}")
        lines += [f"  {line}" for line in self._describe_track()]
        lines += [f"  {line}" for line in self._describe_probe()]
        lines.append(f"  {self.gate.describe()}")
        lines.append(self._describe_verdict())
        lines += [cause.describe() for cause in self.causes]
        return "\n".join([*lines, self.layers.describe()] if self.layers else lines)

    def _describe_drift(self) -> str:
        """How the state's error goes from the first frame to the last."""
        if not self.states:
            return "no state is carried from frame to frame"
        worst = [
            [max(f.errors[name] for name in self.states) for f in clip.frames]
            for clip in self.clips
        ]
        first, last = max(s[0] for s in worst), max(s[-1] for s in worst)
        return f"state error {first:.1e} after the first frame, {last:.1e} after the last"

    def _describe_track(self) -> Iterator[str]:
        frames = f"the {self.judged_frames} frames in which the reference is on its target"
        yield f"same cell chosen in {self.argmax_agreement:.1%} of {frames}"
        if self.box_error is not None:
            yield f"boxes of the same cells differ by at most {self.box_error:.1e}"
        yield f"scores differ by at most {self.score_error:.1e} of the largest logit"
        sensitivity = (
            f"reference from perturbed starts {self.start_sensitivity.closed_loop_iou:.4f}"
        )
        yield f"closed-loop IoU {self.closed_loop_iou:.4f} ({sensitivity})"
        if d := self.first_divergence:
            place = f"{self.clips[d.clip].name}, frame {d.frame}"
            yield f"first other cell: {place}, margin {d.margin:.1e}"

    def _describe_probe(self) -> Iterator[str]:
        probe = self.probe
        worst = max(probe.outputs[name].relative for name in (self.told, *self.states))
        targets = "two targets at once" if probe.slots > 1 else "one target at a time"
        yield f"{probe.steps} probes (random windows, hard targets, {targets}): error {worst:.1e}"

    def _describe_verdict(self) -> str:
        if self.failures:
            return "FAILED: " + "; ".join(self.failures)
        if self.judged:
            return "PASSED"
        return (
            "PASSED for its outputs; the track was NOT judged: the reference is on its target in "
            f"fewer than {ENOUGH_ON_TARGET:.0%} of the frames "
            f"(IoU with the truth {self.reference_iou:.2f}); give clips that it tracks with --clips"
        )


def find_gate(precision: str) -> ParityGate:
    """What that precision must reach."""
    gate = GATES.get(precision)
    if gate is None:
        raise InputError("parity gate", found=precision, expected=" | ".join(GATES))
    return gate


def judge_parity(rollouts: Sequence[Rollout], run: ProbeRun) -> ParityResult:
    """Compare one candidate's rollouts and probes with its precision's gate; explain a failure."""
    paired = rollouts[0].paired
    candidate = paired.candidate
    gate = find_gate(candidate.precision)
    records = [record for rollout in rollouts for record in rollout.paired.records]
    outputs = {name: _measure_output(rollouts, name) for name in records[0].errors}
    on_target = find_on_target(np.concatenate([rollout.reference_overlaps for rollout in rollouts]))
    cells = select_on_target(np.array([record.same_cell for record in records]), on_target)
    box, agreement = _measure_boxes(records), float(cells.mean())
    iou, *perturbed = _measure_tracks(rollouts, on_target)
    sensitivity = StartSensitivity(min(perturbed))
    score = float(np.max([record.score_error for record in records]))
    choice = float(np.max([record.choice_error for record in records]))
    probe = _measure_probe(run, gate)
    is_judged = bool(on_target.mean() >= ENOUGH_ON_TARGET)
    judged = list_judged(run.contract)
    failures = _list_failures(gate, judged, outputs, box, score, choice)
    failures += [f"probe: {line}" for line in _judge_probe(gate, judged, probe)]
    if is_judged:
        failures += judge_track(gate, agreement, iou, sensitivity)
    causes: tuple[Cause, ...] = ()
    if failures:
        causes = find_causes(paired.reference, run, records, gate)
    return ParityResult(
        candidate.name,
        candidate.precision,
        len(records),
        outputs,
        agreement,
        len(cells),
        is_judged,
        box,
        score,
        choice,
        iou,
        sensitivity,
        _average([rollout.reference_iou for rollout in rollouts]),
        _find_divergence(rollouts),
        probe,
        gate,
        tuple(failures),
        causes,
        [_sum_up(rollout) for rollout in rollouts],
        draw_worst_frames(rollouts),
        *(judged[0], judged[1:]),
    )


def add_layers(result: ParityResult, layers: LayerWalk) -> ParityResult:
    """The result with the graphs' comparison, which may name what its causes leave open."""
    return replace(result, causes=_name_node(result.causes, layers), layers=layers)


def _name_node(causes: tuple[Cause, ...], layers: LayerWalk) -> tuple[Cause, ...]:
    """Put the node in which the error begins in place of a cause that names no mistake."""
    if all(cause.exact for cause in causes):
        return causes
    known = tuple(cause for cause in causes if cause.exact)
    if layers.births:
        first = layers.births[0]
        what = f"the error begins in {first.graph}: {first.node} ({first.op})"
        return (*known, Cause("layers", what))
    what = f"the graphs agree in all {layers.tensors} tensors: the runtime feeds or runs them wrong"
    return (*causes, Cause("runtime", what, exact=False))


def _average(overlaps: Sequence[float | None]) -> float | None:
    known = [overlap for overlap in overlaps if overlap is not None]
    return float(np.mean(known)) if known else None


def _measure_output(rollouts: Sequence[Rollout], name: str) -> OutputError:
    """One output's errors over all frames."""
    tallies = [tallies[name] for r in rollouts for tallies in (r.paired.first, r.paired.later)]
    return reduce(ErrorTally.merge, tallies).sum_up()


def _measure_boxes(records: Sequence[FrameRecord]) -> float | None:
    errors = [record.errors["box"] for record in records if record.same_cell]
    # A NaN must not hide behind max().
    return float(np.max(errors)) if errors else None


def _measure_tracks(rollouts: Sequence[Rollout], on_target: Flags) -> list[float]:
    """How closely the reference's track is followed: by the candidate, then from each start."""
    followers = zip(*([r.overlaps, *r.perturbed_overlaps] for r in rollouts), strict=True)
    return [float(select_on_target(np.concatenate(one), on_target).mean()) for one in followers]


def _measure_probe(run: ProbeRun, gate: ParityGate) -> ProbeParity:
    pairs = [*run.pairs, *run.slots]
    same = [pair.measure_error("box") for pair in pairs if pair.same_cell]
    summary = np.max if gate.exact else np.mean
    return ProbeParity(
        len(pairs),
        2 if run.slots else 1,
        {name: _tally(pairs, name) for name in pairs[0].reference},
        float(np.max([pair.score_error for pair in pairs])),
        float(np.max([pair.choice_error for pair in pairs])),
        float(summary(same)) if same else float("inf"),
    )


def _tally(pairs: Sequence[FramePair], name: str) -> OutputError:
    tally = ErrorTally()
    for pair in pairs:
        tally.add(pair.reference[name], pair.candidate[name])
    return tally.sum_up()


def _list_failures(
    gate: ParityGate,
    judged: Sequence[str],
    outputs: dict[str, OutputError],
    box: float | None,
    score: float,
    choice: float,
) -> list[str]:
    """A score may differ by as much as the logits, and must be the largest of its own map."""
    failures = judge_outputs(gate, {name: outputs[name] for name in judged if name != "box"})
    if not score <= gate.relative + gate.choice:
        failures.append(f"score error {score:.1e} > {gate.relative + gate.choice:.0e}")
    if not choice <= gate.choice:
        failures.append(
            f"score is not the largest windowed logit: {choice:.1e} > {gate.choice:.0e}"
        )
    if box is None:
        failures.append("no box of the same cell")
    elif not box <= gate.box:
        failures.append(f"box error {box:.2e} > {gate.box:.0e}")
    return failures


def _judge_probe(gate: ParityGate, judged: Sequence[str], probe: ProbeParity) -> list[str]:
    return _list_failures(
        gate, judged, probe.outputs, probe.box_error, probe.score_error, probe.choice_error
    )


def _find_divergence(rollouts: Sequence[Rollout]) -> Divergence | None:
    for index, rollout in enumerate(rollouts):
        for record, frame in zip(rollout.paired.records, rollout.segment.frames[1:], strict=True):
            if not record.same_cell:
                return Divergence(index, frame, record.margin)
    return None


def _sum_up(rollout: Rollout) -> ClipParity:
    rows = zip(rollout.segment.frames[1:], rollout.paired.records, rollout.overlaps, strict=True)
    frames = [
        FrameParity(number, record.errors, record.same_cell, record.margin, float(iou))
        for number, record, iou in rows
    ]
    return ClipParity(rollout.segment.clip.name, frames, rollout.reference_iou)
