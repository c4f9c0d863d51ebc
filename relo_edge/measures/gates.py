"""Two trackers side by side: how far apart they are, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import Box, box_iou, read_box
from relo_edge.runtime import Runtime
from relo_edge.tracker import Tracker
from relo_edge.video.opening import Frame

__all__ = [
    "GATES",
    "NUDGES",
    "TRACKS",
    "ErrorTally",
    "Gate",
    "OutputError",
    "Sway",
    "choose_held",
    "find_held",
    "follow_target",
    "judge_outputs",
    "judge_track",
    "measure_overlaps_or_nan",
    "nudge_box",
]

TRACKS = 0.5
"""A reference that overlaps the truth by less does not track the clips itself: its cells are near
ties, and whether another follows it in closed loop says nothing. That is reported only."""

NUDGES = ((0.02, 0.0), (0.0, 0.02))
"""Right and down, in shares of the target's size: starts a hair off, to see how a tracker sways."""

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Gate:
    """What a precision must reach to count as the same tracker."""

    relative: float
    """An output's largest error beside its largest entry."""
    cosine: float
    box: float
    """Of the boxes, in crop sides, where both choose the same cell."""
    argmax_agreement: float
    closed_loop_iou: float
    """Of a steady tracker. One that sways by itself, started a hair off, has near ties that any
    rounding turns: that much is not asked of a lower precision."""
    exact: bool = False
    """The reference's own arithmetic: it follows however near the ties."""
    auc_loss: float = 0.03
    """By how much the success AUC may fall below the reference's, where the truth is known; what
    the reference loses by swaying comes on top."""


GATES = {
    "fp32": Gate(
        1e-3, cosine=0.9999, box=1e-3, argmax_agreement=0.99, closed_loop_iou=0.99, exact=True
    ),
    "bf16": Gate(1e-1, cosine=0.995, box=5e-2, argmax_agreement=0.90, closed_loop_iou=0.90),
    "fp16": Gate(5e-3, cosine=0.9995, box=5e-3, argmax_agreement=0.97, closed_loop_iou=0.98),
    "int8": Gate(5e-1, cosine=0.99, box=1e-1, argmax_agreement=0.80, closed_loop_iou=0.85),
}


@dataclass(frozen=True)
class Sway:
    """The reference beside itself with its start a hair off: the worst of some nudges."""

    closed_loop_iou: float
    auc_loss: float = 0.0


@dataclass(frozen=True)
class OutputError:
    """One output over all samples; relative is to the reference's largest entry."""

    max_abs: float
    relative: float
    cosine: float


class ErrorTally:
    """Sums that give an output's errors without keeping its tensors."""

    def __init__(self) -> None:
        self.product = self.reference = self.candidate = self.error = self.largest = 0.0

    def add(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """One sample's tensors."""
        want, got = reference.astype(np.float64), candidate.astype(np.float64)
        self.product += float((want * got).sum())
        self.reference += float((want * want).sum())
        self.candidate += float((got * got).sum())
        # np.maximum keeps a NaN that max() would lose.
        self.error = float(np.maximum(self.error, np.abs(want - got).max()))
        self.largest = max(self.largest, float(np.abs(want).max()))

    def merge(self, other: ErrorTally) -> ErrorTally:
        """Both sides' samples together."""
        both = ErrorTally()
        for name in ("product", "reference", "candidate"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        both.error = float(np.maximum(self.error, other.error))
        both.largest = max(self.largest, other.largest)
        return both

    def sum_up(self) -> OutputError:
        """The errors of all samples together."""
        norms = np.sqrt(self.reference * self.candidate)
        cosine = self.product / norms if norms else float(self.reference == self.candidate)
        return OutputError(self.error, self.error / max(self.largest, 1e-12), float(cosine))


def follow_target(
    runtime: Runtime, frames: Iterator[Frame], box: Box, advance: Callable[[], None]
) -> Floats:
    """The boxes of the frames after the first, in which the target is at `box`: [n,4] x, y, w, h.

    `advance` is called after each frame tracked.
    """
    tracker = Tracker(runtime, color="bgr")
    tracker.init(next(frames), box)
    boxes = []
    for frame in frames:
        boxes.append(tracker.update(frame).box)
        advance()
    return np.array(boxes, np.float64).reshape(-1, 4)


def nudge_box(box: Box) -> list[Box]:
    """The box a hair off, as several people would draw it."""
    size = (box[2] * box[3]) ** 0.5
    return [(box[0] + right * size, box[1] + down * size, *box[2:]) for right, down in NUDGES]


def measure_overlaps_or_nan(first: Floats, second: Floats | None) -> Floats:
    """The IoU of each pair of rows; NaN where one of the two is not there, as an unknown truth."""
    if second is None:
        return np.full(len(first), np.nan)
    pairs = zip(first, second, strict=True)
    present = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    return np.where(present, [box_iou(read_box(a), read_box(b)) for a, b in pairs], np.nan)


def find_held(overlaps: Floats) -> Flags:
    """The frames whose overlap with the truth is that of a tracker on its target, or not known."""
    return np.asarray(~np.isfinite(overlaps) | (np.nan_to_num(overlaps) >= TRACKS))


def choose_held(values: NDArray[Any], held: Flags) -> NDArray[Any]:
    """Those of the frames that say something; all where none is: reported then, not judged."""
    return values[held] if held.any() else values


def judge_outputs(gate: Gate, outputs: Mapping[str, OutputError]) -> list[str]:
    """Every output that is beyond the gate; so written that NaN is."""
    failures = []
    for name, error in outputs.items():
        if not error.cosine >= gate.cosine:
            failures.append(f"{name} cosine {error.cosine:.4f} < {gate.cosine}")
        if not error.relative <= gate.relative:
            failures.append(f"{name} error {error.relative:.1e} > {gate.relative:.0e}")
    return failures


def judge_track(
    gate: Gate,
    argmax_agreement: float,
    closed_loop_iou: float,
    sway: Sway,
    auc_loss: float | None = None,
) -> list[str]:
    """The same for the chosen cells and the track."""
    failures = []
    if not argmax_agreement >= gate.argmax_agreement:
        failures.append(f"argmax agreement {argmax_agreement:.3f} < {gate.argmax_agreement}")
    limit = gate.closed_loop_iou - (0.0 if gate.exact else 1 - sway.closed_loop_iou)
    if not closed_loop_iou >= limit:
        failures.append(f"closed-loop IoU {closed_loop_iou:.3f} < {limit:.3f}")
    bound = gate.auc_loss + sway.auc_loss
    if auc_loss is not None and not auc_loss <= bound:
        failures.append(f"AUC {auc_loss:.3f} below float32's > {bound:.3f}")
    return failures
