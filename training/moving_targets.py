"""Boxes around what moves between two frames of a camera that stands still."""

from __future__ import annotations

import numpy as np

from relo_edge.geometry import Box
from relo_edge.host.opencv import cv2
from relo_edge.video.opening import Frame

__all__ = ["find_moving"]

WIDTH = 320
"""Pixels to which frames are scaled: noise averages out."""
DIFFERENT = 18
"""Grey levels by which a moving pixel differs."""
JOINED = 9
"""Pixels within which moving parts belong to one target."""
SHARES = (0.002, 0.2)
"""Smallest and largest area of a target, as shares of the picture: more is a moving camera."""
MOST = 4
"""Boxes of one picture."""


def find_moving(before: Frame, after: Frame) -> list[Box]:
    """The largest moving areas, in pixels of the frames."""
    scale = min(1.0, WIDTH / before.shape[1])
    first, second = (_shrink(frame, scale) for frame in (before, after))
    moved = (cv2.absdiff(first, second) > DIFFERENT).astype(np.uint8)
    joined = cv2.morphologyEx(moved, cv2.MORPH_CLOSE, np.ones((JOINED, JOINED), np.uint8))
    _, _, areas, _ = cv2.connectedComponentsWithStats(joined)
    boxes = areas[1:, :4].astype(np.float64)
    shares = boxes[:, 2:].prod(axis=1) / joined.size
    fitting = np.flatnonzero((shares >= SHARES[0]) & (shares <= SHARES[1]))
    largest = sorted(fitting, key=lambda row: -shares[row])[:MOST]
    chosen = [boxes[row] / scale for row in largest]
    return [(float(x), float(y), float(w), float(h)) for x, y, w, h in chosen]


def _shrink(frame: Frame, scale: float) -> Frame:
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small, (5, 5), 0).astype(np.uint8, copy=False)
