"""Closed-loop accuracy of a checkpoint on held-out synthetic clips."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import read_box
from relo_edge.measures.accuracy import measure_auc
from relo_edge.measures.closed_loop import follow_target, measure_overlaps_or_nan
from relo_edge.runtime import Runtime, open_runtime
from relo_edge.synthetic.clip import make_clip

__all__ = ["HELD_OUT", "Trial", "try_checkpoint"]

HELD_OUT = 5000
"""First seed of the held-out clips; training never draws them."""


@dataclass(frozen=True)
class Trial:
    """Accuracy over all clips, without the start frames."""

    clips: int
    frames: int
    mean_iou: float
    auc: float

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def describe(self) -> str:
        """One line."""
        return (
            f"closed loop on {self.clips} clips of {self.frames} frames: "
            f"mean IoU {self.mean_iou:.3f}, AUC {self.auc:.3f}"
        )


def try_checkpoint(
    checkpoint: Path,
    clips: int = 64,
    frames: int = 60,
    advance: Callable[[], None] = lambda: None,
) -> Trial:
    """Track the first `clips` held-out clips; `advance` is called after each."""
    with closing(open_runtime(None, "pytorch", checkpoint=checkpoint)) as runtime:
        overlaps = []
        for index in range(clips):
            overlaps.append(_track_clip(runtime, HELD_OUT + index, frames))
            advance()
    scores = np.concatenate(overlaps)
    return Trial(clips, frames, float(scores.mean()), measure_auc(scores))


def _track_clip(runtime: Runtime, seed: int, frames: int) -> NDArray[np.float64]:
    clip = make_clip(seed, frames)
    boxes = follow_target(runtime, clip.frames(), read_box(clip.boxes[0]), lambda: None)
    return measure_overlaps_or_nan(boxes, clip.boxes[1:])
