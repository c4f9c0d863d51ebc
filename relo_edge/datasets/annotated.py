"""Datasets that keep their annotations apart from their images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.datasets.facts import UAV_STARTS
from relo_edge.datasets.matching import cut_images, number_image, withhold_boxes
from relo_edge.errors import SourceError
from relo_edge.sequences import ImageSequence, build_sequence, read_boxes
from relo_edge.video import list_images

__all__ = ["read_nfs", "read_trackingnet", "read_uav"]

RATE = "30"
"""The frame rate at which the release's figures on NfS are measured."""

ANNOTATED_RATIO = 8
"""NfS annotates every frame at 240 per second, also beside the images at 30."""


def read_trackingnet(folder: Path, origin: float) -> list[ImageSequence]:
    """anno/NAME.txt and frames/NAME/; the test part has first boxes only."""
    root = folder if (folder / "anno").is_dir() else folder / "TEST"
    sequences = []
    for truth in sorted((root / "anno").glob("*.txt")):
        boxes, images = read_boxes(truth), _list_named(root / "frames" / truth.stem)
        if len(boxes) == 1 < len(images):
            start = build_sequence(truth.stem, images[:1], boxes, origin)
            sequences.append(withhold_boxes(start, images))
        else:
            images = list(cut_images(truth, images, len(boxes)))
            sequences.append(build_sequence(truth.stem, images, boxes, origin))
    return sequences


def read_uav(folder: Path, origin: float) -> list[ImageSequence]:
    """anno/UAV123/NAME.txt, several of them parts of one video in data_seq/UAV123/."""
    sequences = []
    for truth in sorted((folder / "anno" / "UAV123").glob("*.txt")):
        boxes = read_boxes(truth)
        whole, part = (folder / "data_seq" / "UAV123" / name for name in _name_video(truth.stem))
        start = UAV_STARTS.get(truth.stem, 1)
        images = _list_named(whole if whole.is_dir() else part)
        images = [image for image in images if number_image(image) >= start]
        images = list(cut_images(truth, images, len(boxes)))
        sequences.append(build_sequence(truth.stem, images, boxes, origin))
    return sequences


def read_nfs(folder: Path, origin: float) -> list[ImageSequence]:
    """The dataset's own folders at 30 frames per second, or the release's sequences/ and anno/."""
    if (folder / "anno").is_dir():
        return [
            _read_prepared(folder, truth, origin) for truth in sorted(folder.glob("anno/*.txt"))
        ]
    return [_read_original(truth, origin) for truth in sorted(folder.glob(f"*/{RATE}/*.txt"))]


def _name_video(name: str) -> tuple[str, str]:
    """A target's own folder, or that of the video it is a part of."""
    return name, re.sub(r"_\d+$", "", name)


def _list_named(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"images {str(folder)!r}", found="no such folder", expected="images")
    return list_images(folder)


def _read_prepared(folder: Path, truth: Path, origin: float) -> ImageSequence:
    name = truth.stem.removeprefix("nfs_")
    images = _list_named(folder / "sequences" / name)
    return _build_nearly(name, truth, images, read_boxes(truth), origin)


def _read_original(truth: Path, origin: float) -> ImageSequence:
    """Lines of id, left, top, right, bottom and more, eight for an image."""
    images = _list_named(truth.parent / truth.stem)
    corners = read_boxes(truth, lambda words: words[1:5])
    boxes = np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])
    if abs(len(boxes) / len(images) - ANNOTATED_RATIO) < 1:
        boxes = boxes[::ANNOTATED_RATIO]
    return _build_nearly(truth.stem, truth, images, boxes, origin)


def _build_nearly(
    name: str, truth: Path, images: list[Path], boxes: NDArray[np.float64], origin: float
) -> ImageSequence:
    """NfS's last frame may lack its box or its image."""
    if abs(len(images) - len(boxes)) > 1 or not len(boxes):
        raise SourceError(
            f"sequence {name}",
            found=f"{len(images)} images and {len(boxes)} boxes in {truth}",
            expected="a box for each image",
        )
    length = min(len(images), len(boxes))
    return build_sequence(name, images[:length], boxes[:length], origin)
