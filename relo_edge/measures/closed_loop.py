"""A target followed in closed loop, and how far two tracks are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from relo_edge.geometry import Box, Floats, box_iou, read_box
from relo_edge.runtime import Runtime
from relo_edge.tracker import Tracker
from relo_edge.video.opening import Frame

__all__ = ["START_SHIFTS", "follow_target", "measure_overlaps_or_nan", "perturb_start"]


START_SHIFTS = ((0.02, 0.0), (0.0, 0.02))
"""Right and down, as fractions of the target's size: how the start box is perturbed to measure
how much a track depends on it."""


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


def perturb_start(box: Box) -> list[Box]:
    """The box shifted a little, as another person would draw it: one for each of START_SHIFTS."""
    size = (box[2] * box[3]) ** 0.5
    return [(box[0] + right * size, box[1] + down * size, *box[2:]) for right, down in START_SHIFTS]


def measure_overlaps_or_nan(first: Floats, second: Floats | None) -> Floats:
    """The IoU of each pair of rows; NaN where one of the two is not there, as an unknown truth."""
    if second is None:
        return np.full(len(first), np.nan)
    pairs = zip(first, second, strict=True)
    present = np.isfinite(first).all(axis=1) & np.isfinite(second).all(axis=1)
    return np.where(present, [box_iou(read_box(a), read_box(b)) for a, b in pairs], np.nan)
