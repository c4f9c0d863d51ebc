"""Image folders with ground truth: which images there are, and where the target is in each."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, SourceError
from relo_edge.video import list_images

__all__ = ["TRUTH_FILES", "ImageSequence", "find_truth", "read_boxes", "read_sequence"]

TRUTH_FILES = ("groundtruth.txt", "groundtruth_rect.txt")
META = "meta.json"
SEPARATOR = re.compile(r"\s*,\s*|\s+")
COLUMNS = "four numbers x,y,w,h"


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """A sequence folder: its images, and a box for each."""

    name: str
    images: tuple[Path, ...]
    boxes: NDArray[np.float64]
    """[n,4] x, y, w, h, counted from 0; NaN where the target is absent."""
    absent: NDArray[np.bool_]
    """[n] the frames whose target is not to be seen."""


def find_truth(folder: Path) -> Path | None:
    """The folder's ground truth; what has none is no sequence."""
    return next((folder / name for name in TRUTH_FILES if (folder / name).is_file()), None)


def read_sequence(folder: Path) -> ImageSequence:
    """Read what a sequence folder says; its images are left unread."""
    truth = find_truth(folder)
    if truth is None:
        raise InputError(
            f"sequence {str(folder)!r}",
            found="no ground truth",
            expected=" or ".join(TRUTH_FILES),
        )
    images, boxes = list_images(folder), read_boxes(truth)
    if len(images) != len(boxes):
        raise SourceError(
            f"sequence {str(folder)!r}",
            found=f"{len(images)} images and {len(boxes)} boxes in {truth.name}",
            expected="a box for each image",
        )
    boxes[:, :2] -= _read_origin(folder / META)
    present = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > 0).all(axis=1)
    absent: NDArray[np.bool_] = np.logical_not(present)
    boxes[absent] = np.nan
    return ImageSequence(folder.resolve().name, tuple(images), boxes, absent)


def read_boxes(truth: Path) -> NDArray[np.float64]:
    """The rows of a ground-truth file, as they stand there."""
    try:
        # Files from Windows may open with a byte order mark.
        lines = truth.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise SourceError(f"{truth} cannot be read", found=error, expected="text") from None
    boxes = [_parse_line(truth, number, line) for number, line in enumerate(lines, 1)]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _parse_line(truth: Path, number: int, line: str) -> list[float]:
    try:
        values = [float(word) for word in SEPARATOR.split(line.strip())]
    except ValueError:
        found = repr(line if len(line) <= 40 else f"{line[:40]}…")
        raise SourceError(f"{truth} line {number}", found=found, expected=COLUMNS) from None
    if len(values) != 4:
        found = f"{len(values)} numbers"
        raise SourceError(f"{truth} line {number}", found=found, expected=COLUMNS)
    return values


def _read_origin(file: Path) -> float:
    """What the first pixel is counted as: 0, unless the sequence says 1."""
    if not file.is_file():
        return 0.0
    try:
        origin = float(json.loads(file.read_text(encoding="utf-8")).get("origin", 0))
    except (OSError, ValueError, TypeError, AttributeError):
        origin = math.nan
    if origin not in (0, 1):
        expected = '{"origin": 0} or {"origin": 1}'
        raise SourceError(f"{file}", found="no origin that boxes count from", expected=expected)
    return origin
