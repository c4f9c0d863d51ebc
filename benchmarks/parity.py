"""Is it the same tracker: a runtime against the reference, tensor by tensor and in closed loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.twin import FramePair, TwinRuntime
from relo_edge.errors import InputError
from relo_edge.geometry import Box, box_iou, read_box
from relo_edge.runtime import Runtime
from relo_edge.synthetic import SyntheticClip, make_clip
from relo_edge.tracker import Tracker

__all__ = ["GATES", "Divergence", "Gate", "OutputError", "ParityResult", "measure_parity"]

# A reference that overlaps the truth by less does not track the clips: its cells are near ties, and
# whether another runtime follows it in closed loop says nothing.
TRACKS = 0.5
CLIPS = 2
FRAMES = 30


@dataclass(frozen=True)
class Gate:
    """What a precision must reach to count as the same tracker."""

    logits_relative: float
    box: float
    """Of the boxes, in crop sides, where both choose the same cell."""
    argmax_agreement: float
    closed_loop_iou: float


GATES = {
    "fp32": Gate(logits_relative=1e-3, box=1e-3, argmax_agreement=0.99, closed_loop_iou=0.99),
    "bf16": Gate(logits_relative=1e-1, box=5e-2, argmax_agreement=0.90, closed_loop_iou=0.90),
    "fp16": Gate(logits_relative=5e-3, box=5e-3, argmax_agreement=0.97, closed_loop_iou=0.98),
    "int8": Gate(logits_relative=5e-1, box=1e-1, argmax_agreement=0.80, closed_loop_iou=0.85),
}


@dataclass(frozen=True)
class OutputError:
    """One output over all frames; relative is to the reference's largest entry."""

    max_abs: float
    relative: float
    cosine: float


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
    overlaps: list[float] = []
    own: list[float] = []
    for seed in range(CLIPS):
        clip = make_clip(seed, frames=FRAMES)
        twin = TwinRuntime(reference, candidate)
        expected = _track_clip(twin, clip, advance)
        pairs.append(twin.pairs)
        truth = [read_box(row) for row in clip.boxes[1:]]
        own += [box_iou(one, other) for one, other in zip(expected, truth, strict=True)]
        boxes = _track_clip(candidate, clip, advance)
        overlaps += [box_iou(one, other) for one, other in zip(expected, boxes, strict=True)]
    return _judge_parity(candidate, gate, pairs, float(np.mean(overlaps)), float(np.mean(own)))


def count_frames() -> int:
    """How often `advance` will be called."""
    return 2 * CLIPS * (FRAMES - 1)


def _track_clip(runtime: Runtime, clip: SyntheticClip, advance: Callable[[], None]) -> list[Box]:
    tracker = Tracker(runtime, color="bgr")
    frames = clip.frames()
    tracker.init(next(frames), read_box(clip.boxes[0]))
    boxes = []
    for frame in frames:
        boxes.append(tracker.update(frame).box)
        advance()
    return boxes


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
    """One output's errors; its cosine is the worst frame's."""
    errors, cosines, largest = [], [], 0.0
    for pair in pairs:
        want, got = pair.reference[name].astype(float), pair.candidate[name].astype(float)
        errors.append(float(np.abs(want - got).max()))
        cosines.append(_measure_cosine(want, got))
        largest = max(largest, float(np.abs(want).max()))
    # A NaN must not hide behind max().
    worst = float(np.max(errors))
    return OutputError(worst, worst / max(largest, 1e-12), float(np.min(cosines)))


def _measure_boxes(pairs: Sequence[FramePair]) -> float:
    """The largest box error where the cells agree; infinite where they never do."""
    errors = [
        float(np.abs(pair.reference["box"] - pair.candidate["box"]).max())
        for pair in pairs
        if len(set(pair.choose_cells())) == 1
    ]
    return float(np.max(errors)) if errors else float("inf")


def _measure_cosine(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    product = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float((first * second).sum()) / product if product else float(np.allclose(first, second))


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
    relative, limit = outputs["policy_logits"].relative, gate.logits_relative
    least, overlap = gate.argmax_agreement, gate.closed_loop_iou
    checks = [
        (relative <= limit, f"logits relative error {relative:.2e} > {limit:.0e}"),
        (box <= gate.box, f"box error {box:.2e} > {gate.box:.0e}"),
    ]
    if judged:
        checks += [
            (agreement >= least, f"argmax agreement {agreement:.3f} < {least}"),
            (iou >= overlap, f"closed-loop IoU {iou:.3f} < {overlap}"),
        ]
    return tuple(word for met, word in checks if not met)
