"""Outlines of objects: COCO polygons and run lengths as masks, masks as a few points."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import SourceError

__all__ = ["OUTLINE", "Points", "decode_mask", "support_points"]

OUTLINE = 32
"""Points on an outline: the box of the moved target is the box of these."""

Image = NDArray[np.uint8]
Points = NDArray[np.float64]


def support_points(points: Points) -> Points:
    """The farthest point in each of OUTLINE directions, so that boxes fit at any angle."""
    angles = np.linspace(0, 2 * np.pi, OUTLINE, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(np.float64)
    farthest: Points = hull[(hull @ directions).argmax(axis=0)]
    return farthest


def decode_mask(segmentation: Any, shape: tuple[int, ...]) -> Image:
    """A COCO segmentation as a mask of 0 and 1 for a picture of that height and width."""
    height, width = shape[:2]
    try:
        if isinstance(segmentation, dict):
            return _decode_runs(segmentation, height, width)
        mask = np.zeros((height, width), np.uint8)
        for polygon in segmentation:
            corners = np.array(polygon, np.float64).reshape(-1, 2)
            if len(corners) > 2 and np.isfinite(corners).all():
                # OpenCV's pixel centres are whole numbers; COCO's are halves.
                cv2.fillPoly(mask, [np.rint(corners - 0.5).astype(np.int32)], 1)
        return mask
    except (ValueError, TypeError, LookupError) as error:
        raise SourceError(
            "segmentation", found=f"{type(error).__name__} {error}", expected="polygons or runs"
        ) from None


def _decode_runs(segmentation: dict[str, Any], height: int, width: int) -> Image:
    """COCO's run lengths: column by column, background first."""
    rows, columns = (int(side) for side in segmentation["size"])
    counts = segmentation["counts"]
    runs = _expand_counts(counts) if isinstance(counts, str) else [int(count) for count in counts]
    if min(runs, default=0) < 0 or sum(runs) != rows * columns:
        raise ValueError(f"runs of {sum(runs)} pixels for {columns}x{rows}")
    flags = np.arange(len(runs)) % 2
    mask = np.repeat(flags, runs).reshape(columns, rows).T.astype(np.uint8)
    if (rows, columns) != (height, width):
        resized = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        return resized.astype(np.uint8, copy=False)
    return np.ascontiguousarray(mask)


def _expand_counts(text: str) -> list[int]:
    """COCO's compressed runs: five bits a character, later ones relative to the run two before."""
    runs: list[int] = []
    place = 0
    while place < len(text):
        value, shift, more = 0, 0, True
        while more:
            bits = ord(text[place]) - 48
            value |= (bits & 31) << shift
            more, place, shift = bool(bits & 32), place + 1, shift + 5
            if not more and bits & 16:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    return runs
