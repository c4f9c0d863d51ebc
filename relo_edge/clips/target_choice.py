"""Boxes that can be tracked, chosen from one picture: textured ones, well inside it."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import SMALLEST, Box, Floats, box_iou
from relo_edge.host.opencv import cv2
from relo_edge.video.opening import Frame

__all__ = ["choose_targets"]


TARGETS = 3
"""How many boxes one picture gives at most."""

CANDIDATES = 400
SHARES = (0.12, 0.35)
"""How large a candidate is beside the picture's shorter side."""

MARGIN = 0.05
"""The share of the picture along its edges that candidates stay clear of."""

FLAT = 4.0
"""Squared grey levels per pixel: a compressed video's empty wall has less in either direction."""


def choose_targets(frame: Frame, seed: int) -> list[Box]:
    """Boxes well inside the picture, apart from each other, with texture in both directions."""
    candidates = _draw_candidates(np.random.default_rng(seed), frame.shape[1], frame.shape[0])
    texture = _measure_texture(frame, candidates)
    # Texture alone would always prefer the smallest box around the sharpest corner.
    value = texture * np.sqrt(candidates[:, 2] * candidates[:, 3])
    chosen: list[Box] = []
    for index in np.argsort(-value):
        x, y, width, height = map(float, candidates[index])
        box = (x, y, width, height)
        if texture[index] > FLAT and not any(box_iou(box, other) for other in chosen):
            chosen.append(box)
    return chosen[:TARGETS]


def _draw_candidates(rng: np.random.Generator, width: int, height: int) -> NDArray[np.int64]:
    """[n,4] boxes of many sizes and shapes, in whole pixels."""
    side = min(width, height) * rng.uniform(*SHARES, CANDIDATES)
    shape = np.exp(rng.uniform(-0.4, 0.4, CANDIDATES))
    sizes = np.stack([side * shape, side / shape], axis=1)
    picture = np.array([width, height])
    room = picture * (1 - 2 * MARGIN) - sizes
    corners = picture * MARGIN + room * rng.random((CANDIDATES, 2))
    boxes = np.hstack([corners, sizes]).round().astype(np.int64)
    return boxes[(boxes[:, 2:] >= SMALLEST).all(axis=1)]


def _measure_texture(frame: Frame, boxes: NDArray[np.int64]) -> Floats:
    """The mean structure tensor's smaller eigenvalue: an edge alone, which slides, has none."""
    grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=0.125) for order in ((1, 0), (0, 1)))
    products = ((across, across), (down, down), (across, down))
    pairs = (cv2.multiply(*factors) for factors in products)
    xx, yy, xy = (_average_boxes(cv2.integral(pair).astype(float), boxes) for pair in pairs)
    smaller: Floats = (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy)
    return smaller


def _average_boxes(sums: Floats, boxes: NDArray[np.int64]) -> Floats:
    """The mean within each box, from the picture's running sums."""
    x, y, width, height = boxes.T
    total: Floats = np.zeros(len(boxes))
    for right, low in product((0, 1), repeat=2):
        total += (1 if right == low else -1) * sums[y + low * height, x + right * width]
    total /= width * height
    return total
