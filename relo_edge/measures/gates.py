"""Two trackers side by side: how far apart they are, and how far apart they may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import Flags, Floats
from relo_edge.measures.tensor_errors import OutputError

__all__ = [
    "GATES",
    "TRACKS",
    "Gate",
    "Sway",
    "choose_held",
    "find_held",
    "judge_outputs",
    "judge_track",
]

TRACKS = 0.5
"""A reference that overlaps the truth by less does not track the clips itself: its cells are near
ties, and whether another follows it in closed loop says nothing. That is reported only."""


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
    "fp8": Gate(5e-1, cosine=0.99, box=1e-1, argmax_agreement=0.80, closed_loop_iou=0.85),
    "int8": Gate(5e-1, cosine=0.99, box=1e-1, argmax_agreement=0.80, closed_loop_iou=0.85),
}


@dataclass(frozen=True)
class Sway:
    """The reference beside itself with its start a hair off: the worst of some nudges."""

    closed_loop_iou: float
    auc_loss: float = 0.0


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
