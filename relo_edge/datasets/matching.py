"""Which image belongs to which box."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from relo_edge.datasets.sequences import ImageSequence
from relo_edge.errors import SourceError

__all__ = ["cut_images", "number_image", "withhold_boxes"]


def number_image(image: Path) -> int:
    """The number that an image's name ends in."""
    digits = re.search(r"(\d+)$", image.stem)
    if not digits:
        raise SourceError(f"image {str(image)!r}", found="no number", expected="a numbered name")
    return int(digits.group(1))


def cut_images(what: Path, images: Sequence[Path], boxes: int) -> Sequence[Path]:
    """The images that have boxes: as in the release, those after the last box are left out."""
    if not 0 < boxes <= len(images):
        raise SourceError(
            f"sequence {str(what)!r}",
            found=f"{len(images)} images and {boxes} boxes",
            expected="an image for each box",
        )
    return images[:boxes]


def withhold_boxes(start: ImageSequence, images: Sequence[Path]) -> ImageSequence:
    """The whole sequence of a start frame whose other boxes are the server's secret."""
    boxes = np.full((len(images), 4), np.nan)
    boxes[0] = start.boxes[0]
    absent = np.zeros(len(images), np.bool_)
    return replace(start, images=tuple(images), boxes=boxes, absent=absent, withheld=True)
