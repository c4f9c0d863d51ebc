"""Image folders with ground truth: which images there are, and where the target is in each."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.box_files import read_boxes
from relo_edge.errors import InputError, SourceError
from relo_edge.geometry import has_area
from relo_edge.video.opening import list_images

__all__ = [
    "TARGET_TRUTH",
    "TRUTH_FILES",
    "ImageSequence",
    "build_sequence",
    "find_truth",
    "read_origin",
    "read_sequence",
]

TRUTH_FILES = ("groundtruth.txt", "groundtruth_rect.txt")
TARGET_TRUTH = re.compile(r"groundtruth_rect(?:\.(\d+))?\.txt")
"""OTB's, of one of several targets in a video."""
META = "meta.json"


@dataclass(frozen=True, eq=False)
class ImageSequence:
    """A target in a sequence of images: a box for each, or for the first alone."""

    name: str
    images: tuple[Path, ...]
    boxes: NDArray[np.float64]
    """[n,4] x, y, w, h, counted from 0; NaN where the target is absent."""
    absent: NDArray[np.bool_]
    """[n] the frames whose target is not to be seen."""
    hidden: NDArray[np.bool_] | None = None
    """[n] frames labelled as hidden by the dataset, with or without a box."""
    away: NDArray[np.bool_] | None = None
    """[n] frames labelled otherwise as absent; the dataset's figures ignore these labels."""
    picture: tuple[int, int] | None = None
    """Width and height, where the dataset's figures look only at what lies inside the picture."""
    withheld: bool = False
    """Whether the dataset gives away the first box only."""

    @property
    def visible(self) -> NDArray[np.bool_]:
        """[n] where the target has a box and no label hides it."""
        visible: NDArray[np.bool_] = has_area(self.boxes)
        for label in (self.hidden, self.away):
            if label is not None:
                visible = visible & ~label
        return visible


def find_truth(folder: Path) -> Path | None:
    """The folder's ground truth; what has none is no sequence."""
    return next((folder / name for name in TRUTH_FILES if (folder / name).is_file()), None)


def read_sequence(folder: Path, origin: float = 0.0) -> ImageSequence:
    """Read a sequence folder without reading its images.

    `origin` is what boxes count from, unless the sequence says so itself.
    """
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
    return build_sequence(_name_folder(folder), images, boxes, read_origin(folder, origin))


def _name_folder(folder: Path) -> str:
    """Its name as it was given: links to folders of one name have names of their own."""
    place = folder.absolute()
    return place.resolve().name if place.name == ".." else place.name


def build_sequence(
    name: str, images: Sequence[Path], boxes: NDArray[np.float64], origin: float = 0.0
) -> ImageSequence:
    """A sequence whose boxes count from 0 and are NaN where there is no target."""
    boxes = boxes.copy()
    boxes[:, :2] -= origin
    absent: NDArray[np.bool_] = np.logical_not(has_area(boxes))
    boxes[absent] = np.nan
    return ImageSequence(name, tuple(images), boxes, absent)


def read_origin(folder: Path, otherwise: float = 0.0) -> float:
    """The number of the first pixel: 0, or 1 where the sequence or the caller says so."""
    file = folder / META
    if not file.is_file():
        return otherwise
    try:
        origin = float(json.loads(file.read_text(encoding="utf-8")).get("origin", otherwise))
    except (OSError, ValueError, TypeError, AttributeError):
        origin = math.nan
    if origin not in (0, 1):
        expected = '{"origin": 0} or {"origin": 1}'
        raise SourceError(f"{file}", found="no origin that boxes count from", expected=expected)
    return origin
