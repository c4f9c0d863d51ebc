"""Is it the same tracker: a runtime against the reference, tensor by tensor and in closed loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from relo_edge.benchmarks.parity.diagnosis import Cause, find_causes
from relo_edge.benchmarks.parity.layers import LayerWalk
from relo_edge.benchmarks.parity.paired_runtime import FrameNote
from relo_edge.benchmarks.parity.rollout import Rollout
from relo_edge.benchmarks.parity.worst_frames import Picture, draw_partings
from relo_edge.errors import InputError
from relo_edge.geometry import Flags
from relo_edge.measures.gates import (
    GATES,
    TRACKS,
    Gate,
    Sway,
    choose_held,
    find_held,
    judge_outputs,
    judge_track,
)
from relo_edge.measures.tensor_errors import ErrorTally, OutputError

__all__ = ["ClipParity", "Divergence", "FrameParity", "ParityResult", "find_gate", "judge_parity"]

JUDGED = ("policy_logits", "temporal_tokens")
"""The box is judged where both choose the same cell."""


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
class ParityResult:
    """What was found, and whether the gate of that precision is met."""

    runtime: str
    precision: str
    frames: int
    outputs: dict[str, OutputError]
    argmax_agreement: float
    """Over the judged frames, as the closed loop is."""
    judged_frames: int
    """Those in which the reference holds its target, or the truth is not known."""
    box_error: float | None
    """The largest error of a box where both choose the same cell; None where they never do."""
    closed_loop_iou: float
    sway: Sway
    """The same of the reference with itself, its start a hair off."""
    reference_iou: float | None
    """The reference's own overlap with the truth."""
    first_divergence: Divergence | None
    failures: tuple[str, ...]
    causes: tuple[Cause, ...]
    """What a failure comes from, the likeliest first."""
    clips: list[ClipParity]
    pictures: list[Picture]
    """The frames in which the two trackers lie furthest apart."""
    layers: LayerWalk | None = None
    """Where the error is born, when that was asked for."""

    @property
    def judged(self) -> bool:
        """Whether cells and track say something: not where the reference itself is lost."""
        return self.reference_iou is None or self.reference_iou >= TRACKS

    @property
    def passed(self) -> bool:
        """Whether it is the same tracker."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        layers = self.layers.to_dict() if self.layers else None
        return {"passed": self.passed, **asdict(replace(self, layers=None)), "layers": layers}

    def describe(self) -> str:
        """A table and a verdict."""
        lines = [f"{self.runtime} {self.precision} against pytorch, {self.frames} frames"]
        lines.append(f"  {'output':<16}{'max abs':>10}{'relative':>10}{'cosine':>10}")
        for name, e in self.outputs.items():
            lines.append(f"  {name:<16}{e.max_abs:>10.1e}{e.relative:>10.1e}{e.cosine:>10.6f}")
        lines.append(f"  {self._describe_drift()}")
        held = f"the {self.judged_frames} frames in which the reference holds its target"
        lines.append(f"  same cell chosen in {self.argmax_agreement:.1%} of {held}")
        if self.box_error is not None:
            lines.append(f"  boxes of the same cells differ by at most {self.box_error:.1e}")
        own = f"the reference with itself, started a hair off: {self.sway.closed_loop_iou:.4f}"
        lines.append(f"  closed-loop IoU {self.closed_loop_iou:.4f} ({own})")
        if not self.judged:
            own = f"the reference itself overlaps the truth by only {self.reference_iou:.2f}"
            lines.append(f"  cells and track not judged: {own}")
        if d := self.first_divergence:
            place = f"{self.clips[d.clip].name}, frame {d.frame}"
            lines.append(f"  first other cell: {place}, margin {d.margin:.1e}")
        lines.append("PASSED" if self.passed else "FAILED: " + "; ".join(self.failures))
        lines += [cause.describe() for cause in self.causes]
        return "\n".join([*lines, self.layers.describe()] if self.layers else lines)

    def _describe_drift(self) -> str:
        """How the state's error goes from the first frame to the last."""
        states = [[f.errors["temporal_tokens"] for f in clip.frames] for clip in self.clips]
        first, last = max(s[0] for s in states), max(s[-1] for s in states)
        return f"state error {first:.1e} after the first frame, {last:.1e} after the last"


def find_gate(precision: str) -> Gate:
    """What that precision must reach."""
    gate = GATES.get(precision)
    if gate is None:
        raise InputError("parity gate", found=precision, expected=" | ".join(GATES))
    return gate


def judge_parity(rollouts: Sequence[Rollout], layers: LayerWalk | None = None) -> ParityResult:
    """Hold the rollouts of one candidate against its precision's gate, and explain a failure.

    Their reference must take crops of any type: it is asked what it would say to other pixels.
    """
    candidate = rollouts[0].twin.candidate
    gate = find_gate(candidate.precision)
    notes = [note for rollout in rollouts for note in rollout.twin.notes]
    outputs = {name: _measure_output(rollouts, name) for name in notes[0].errors}
    held = find_held(np.concatenate([rollout.reference_overlaps for rollout in rollouts]))
    cells = choose_held(np.array([note.same_cell for note in notes]), held)
    box, agreement = _measure_boxes(notes), float(cells.mean())
    iou, *nudged = _measure_tracks(rollouts, held)
    sway = Sway(min(nudged))
    own = _average([rollout.reference_iou for rollout in rollouts])
    failures = _list_failures(gate, outputs, box)
    if own is None or own >= TRACKS:
        failures += judge_track(gate, agreement, iou, sway)
    return ParityResult(
        candidate.name,
        candidate.precision,
        len(notes),
        outputs,
        agreement,
        len(cells),
        box,
        iou,
        sway,
        own,
        _find_divergence(rollouts),
        tuple(failures),
        find_causes(rollouts[0].twin, gate) if failures else (),
        [_sum_up(rollout) for rollout in rollouts],
        draw_partings(rollouts),
        layers,
    )


def _average(overlaps: Sequence[float | None]) -> float | None:
    known = [overlap for overlap in overlaps if overlap is not None]
    return float(np.mean(known)) if known else None


def _measure_output(rollouts: Sequence[Rollout], name: str) -> OutputError:
    """One output's errors over all frames."""
    tallies = [tallies[name] for r in rollouts for tallies in (r.twin.first, r.twin.later)]
    return reduce(ErrorTally.merge, tallies).sum_up()


def _measure_boxes(notes: Sequence[FrameNote]) -> float | None:
    errors = [note.errors["box"] for note in notes if note.same_cell]
    # A NaN must not hide behind max().
    return float(np.max(errors)) if errors else None


def _measure_tracks(rollouts: Sequence[Rollout], held: Flags) -> list[float]:
    """How closely the reference is followed, by the candidate, then by itself nudge by nudge."""
    followers = zip(*([r.overlaps, *r.sway] for r in rollouts), strict=True)
    return [float(choose_held(np.concatenate(one), held).mean()) for one in followers]


def _list_failures(gate: Gate, outputs: dict[str, OutputError], box: float | None) -> list[str]:
    failures = judge_outputs(gate, {name: outputs[name] for name in JUDGED})
    if box is None:
        failures.append("no box of the same cell")
    elif not box <= gate.box:
        failures.append(f"box error {box:.2e} > {gate.box:.0e}")
    return failures


def _find_divergence(rollouts: Sequence[Rollout]) -> Divergence | None:
    for index, rollout in enumerate(rollouts):
        for note, frame in zip(rollout.twin.notes, rollout.stretch.frames[1:], strict=True):
            if not note.same_cell:
                return Divergence(index, frame, note.margin)
    return None


def _sum_up(rollout: Rollout) -> ClipParity:
    rows = zip(rollout.stretch.frames[1:], rollout.twin.notes, rollout.overlaps, strict=True)
    frames = [
        FrameParity(number, note.errors, note.same_cell, note.margin, float(iou))
        for number, note, iou in rows
    ]
    return ClipParity(rollout.stretch.clip.name, frames, rollout.reference_iou)
