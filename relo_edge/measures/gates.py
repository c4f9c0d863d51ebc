"""What a lower precision or another runtime must reach to count as the same tracker."""

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
    "ON_TARGET_IOU",
    "ParityGate",
    "StartSensitivity",
    "find_on_target",
    "judge_outputs",
    "judge_track",
    "select_on_target",
]

ON_TARGET_IOU = 0.5
"""A reference that overlaps the truth by less has lost its target: its cells are near ties there,
and whether a candidate follows it says nothing. Such frames are reported, not judged."""


@dataclass(frozen=True)
class ParityGate:
    """The limits of one precision."""

    relative: float
    """An output's largest error divided by the reference's largest entry."""
    cosine: float
    box: float
    """Of boxes, in crop sides, where both choose the same cell."""
    argmax_agreement: float
    closed_loop_iou: float
    """Of a tracker that does not depend on its exact start. What the reference itself loses from
    perturbed starts is not asked of a lower precision: any rounding turns its near ties."""
    choice: float
    """How far a score may be from the largest windowed logit of its own map, divided by the map's
    largest entry: rounding alone, as both come from the same logits."""
    exact: bool = False
    """The reference's own arithmetic: it follows however near the ties."""
    auc_loss: float = 0.03
    """How far the success AUC may fall below the reference's where the truth is known, in addition
    to what the reference loses from perturbed starts."""

    def describe(self) -> str:
        """The limits, in a line."""
        return (
            f"limits: error {self.relative:.0e}, cosine {self.cosine}, box {self.box:.0e}, "
            f"same cell {self.argmax_agreement:.0%}, closed-loop IoU {self.closed_loop_iou}"
        )


GATES = {
    "fp32": ParityGate(
        2e-4,
        cosine=0.9999,
        box=1e-3,
        argmax_agreement=0.99,
        closed_loop_iou=0.99,
        choice=1e-5,
        exact=True,
    ),
    "bf16": ParityGate(
        1e-1, cosine=0.995, box=5e-2, argmax_agreement=0.90, closed_loop_iou=0.90, choice=2e-2
    ),
    "fp16": ParityGate(
        5e-3, cosine=0.9995, box=5e-3, argmax_agreement=0.97, closed_loop_iou=0.98, choice=3e-3
    ),
    "fp8": ParityGate(
        5e-1, cosine=0.99, box=1e-1, argmax_agreement=0.80, closed_loop_iou=0.85, choice=3e-3
    ),
    "int8": ParityGate(
        5e-1, cosine=0.99, box=1e-1, argmax_agreement=0.80, closed_loop_iou=0.85, choice=3e-3
    ),
}


@dataclass(frozen=True)
class StartSensitivity:
    """What the reference loses from perturbed starts: the worst of them."""

    closed_loop_iou: float
    """With its own track from the start as given."""
    auc_loss: float = 0.0


def find_on_target(overlaps: Floats) -> Flags:
    """The frames in which a tracker is on its target, or the truth is not known."""
    return np.asarray(~np.isfinite(overlaps) | (np.nan_to_num(overlaps) >= ON_TARGET_IOU))


def select_on_target(values: NDArray[Any], on_target: Flags) -> NDArray[Any]:
    """The values of those frames; all values where there is none: reported then, not judged."""
    return values[on_target] if on_target.any() else values


def judge_outputs(gate: ParityGate, outputs: Mapping[str, OutputError]) -> list[str]:
    """Every output that is beyond the gate; NaN is."""
    failures = []
    for name, error in outputs.items():
        if not error.cosine >= gate.cosine:
            failures.append(f"{name} cosine {error.cosine:.4f} < {gate.cosine}")
        if not error.relative <= gate.relative:
            failures.append(f"{name} error {error.relative:.1e} > {gate.relative:.0e}")
    return failures


def judge_track(
    gate: ParityGate,
    argmax_agreement: float,
    closed_loop_iou: float,
    start_sensitivity: StartSensitivity,
    auc_loss: float | None = None,
) -> list[str]:
    """The same for the chosen cells and the track."""
    failures = []
    if not argmax_agreement >= gate.argmax_agreement:
        failures.append(f"argmax agreement {argmax_agreement:.3f} < {gate.argmax_agreement}")
    limit = gate.closed_loop_iou - (0.0 if gate.exact else 1 - start_sensitivity.closed_loop_iou)
    if not closed_loop_iou >= limit:
        failures.append(f"closed-loop IoU {closed_loop_iou:.3f} < {limit:.3f}")
    bound = gate.auc_loss + start_sensitivity.auc_loss
    if auc_loss is not None and not auc_loss <= bound:
        failures.append(f"AUC {auc_loss:.3f} below float32's > {bound:.3f}")
    return failures
