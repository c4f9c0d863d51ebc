"""Is it the same tracker: a runtime against the reference, tensor by tensor and in closed loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from relo_edge.benchmarks.twin import FramePair, TwinRuntime
from relo_edge.comparison import (
    GATES,
    TRACKS,
    ErrorTally,
    Gate,
    OutputError,
    follow_target,
    judge_outputs,
    judge_track,
    measure_overlaps,
)
from relo_edge.errors import InputError
from relo_edge.geometry import read_box
from relo_edge.runtime import Runtime
from relo_edge.synthetic import make_clip

__all__ = ["Divergence", "ParityResult", "measure_parity"]

CLIPS = 2
FRAMES = 30
JUDGED = ("policy_logits", "temporal_tokens")
"""The box is judged where both choose the same cell."""


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
    box_error: float
    """The largest error of a box where both choose the same cell."""
    closed_loop_iou: float
    reference_iou: float
    """The reference's own overlap with the truth."""
    first_divergence: Divergence | None
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether it is the same tracker."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"passed": self.passed, **asdict(self)}

    def describe(self) -> str:
        """A table and a verdict."""
        lines = [f"{self.runtime} {self.precision} against pytorch, {self.frames} frames"]
        lines.append(f"  {'output':<16}{'max abs':>10}{'relative':>10}{'cosine':>10}")
        for name, e in self.outputs.items():
            lines.append(f"  {name:<16}{e.max_abs:>10.1e}{e.relative:>10.1e}{e.cosine:>10.6f}")
        lines.append(f"  same cell chosen in {self.argmax_agreement:.1%} of frames")
        lines.append(f"  boxes of the same cells differ by at most {self.box_error:.1e}")
        lines.append(f"  closed-loop IoU {self.closed_loop_iou:.4f}")
        if self.reference_iou < TRACKS:
            own = f"the reference itself overlaps the truth by only {self.reference_iou:.2f}"
            lines.append(f"  cells and track not judged: {own}")
        if self.first_divergence:
            d = self.first_divergence
            lines.append(
                f"  first other cell: clip {d.clip}, frame {d.frame}, margin {d.margin:.1e}"
            )
        verdict = "PASSED" if self.passed else "FAILED: " + "; ".join(self.failures)
        return "\n".join([*lines, verdict])


def measure_parity(
    reference: Runtime, candidate: Runtime, advance: Callable[[], None] = lambda: None
) -> ParityResult:
    """Compare on seeded synthetic clips; `advance` is called after each frame tracked."""
    gate = GATES.get(candidate.precision)
    if gate is None:
        raise InputError("parity gate", found=candidate.precision, expected=" | ".join(GATES))
    pairs: list[list[FramePair]] = []
    overlaps, own = [], []
    for seed in range(CLIPS):
        clip = make_clip(seed, frames=FRAMES)
        start = read_box(clip.boxes[0])
        twin = TwinRuntime(reference, candidate)
        expected = follow_target(twin, clip.frames(), start, advance)
        pairs.append(twin.pairs)
        own.append(measure_overlaps(expected, clip.boxes[1:]))
        boxes = follow_target(candidate, clip.frames(), start, advance)
        overlaps.append(measure_overlaps(boxes, expected))
    return _judge_parity(candidate, gate, pairs, float(np.mean(overlaps)), float(np.nanmean(own)))


def count_frames() -> int:
    """How often `advance` will be called."""
    return 2 * CLIPS * (FRAMES - 1)


def _judge_parity(
    candidate: Runtime, gate: Gate, clips: Sequence[Sequence[FramePair]], iou: float, own: float
) -> ParityResult:
    pairs = [pair for clip in clips for pair in clip]
    outputs = {name: _measure_output(pairs, name) for name in pairs[0].reference}
    box = _measure_boxes(pairs)
    agreement = float(np.mean([len(set(pair.choose_cells())) == 1 for pair in pairs]))
    return ParityResult(
        candidate.name,
        candidate.precision,
        len(pairs),
        outputs,
        agreement,
        box,
        iou,
        own,
        _find_divergence(clips),
        _list_failures(gate, outputs, agreement, box, iou, judged=own >= TRACKS),
    )


def _measure_output(pairs: Sequence[FramePair], name: str) -> OutputError:
    """One output's errors over all frames."""
    tally = ErrorTally()
    for pair in pairs:
        tally.add(pair.reference[name], pair.candidate[name])
    return tally.sum_up()


def _measure_boxes(pairs: Sequence[FramePair]) -> float:
    """The largest box error where the cells agree; infinite where they never do."""
    errors = [
        float(np.abs(pair.reference["box"] - pair.candidate["box"]).max())
        for pair in pairs
        if len(set(pair.choose_cells())) == 1
    ]
    return float(np.max(errors)) if errors else float("inf")


def _find_divergence(clips: Sequence[Sequence[FramePair]]) -> Divergence | None:
    for index, clip in enumerate(clips):
        for frame, pair in enumerate(clip, start=1):
            if len(set(pair.choose_cells())) > 1:
                return Divergence(index, frame, pair.measure_margin())
    return None


def _list_failures(
    gate: Gate,
    outputs: dict[str, OutputError],
    agreement: float,
    box: float,
    iou: float,
    *,
    judged: bool,
) -> tuple[str, ...]:
    """What is beyond the gate; written so that NaN fails."""
    failures = judge_outputs(gate, {name: outputs[name] for name in JUDGED})
    if not box <= gate.box:
        failures.append(f"box error {box:.2e} > {gate.box:.0e}")
    if judged:
        failures += judge_track(gate, agreement, iou)
    return tuple(failures)
