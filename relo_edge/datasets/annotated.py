"""Datasets that keep their annotations apart from their images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.box_files import read_boxes
from relo_edge.datasets.matching import cut_images, number_image, withhold_boxes
from relo_edge.datasets.published_splits import UAV_STARTS
from relo_edge.datasets.sequences import ImageSequence, build_sequence
from relo_edge.errors import SourceError
from relo_edge.video.opening import list_images

__all__ = [
    "find_nfs",
    "find_trackingnet",
    "find_trackingnet_training",
    "find_uav",
    "read_nfs",
    "read_trackingnet",
    "read_uav",
]

RATE = "30"
"""The frame rate at which the release's figures on NfS are measured."""

ANNOTATED_RATIO = 8
"""NfS annotates every frame at 240 per second, also beside the images at 30."""


def find_trackingnet(folder: Path) -> list[Path]:
    """One part of the dataset; of the whole, the test part."""
    part = folder if (folder / "anno").is_dir() else folder / "TEST"
    return sorted((part / "anno").glob("*.txt"))


def find_trackingnet_training(folder: Path) -> list[Path]:
    """One part of the dataset; of the whole, the twelve training parts or those that are there."""
    whole = not (folder / "anno").is_dir()
    # Annotations come all at once, frames part by part.
    parts = sorted(frames.parent for frames in folder.glob("TRAIN_*/frames")) if whole else [folder]
    return [truth for part in parts for truth in sorted((part / "anno").glob("*.txt"))]


def read_trackingnet(truth: Path, origin: float) -> list[ImageSequence]:
    """anno/NAME.txt and frames/NAME/; the test part has first boxes only."""
    boxes, images = read_boxes(truth), _list_named(truth.parents[1] / "frames" / truth.stem)
    if len(boxes) == 1 < len(images):
        return [withhold_boxes(build_sequence(truth.stem, images[:1], boxes, origin), images)]
    return [build_sequence(truth.stem, cut_images(truth, images, len(boxes)), boxes, origin)]


def find_uav(folder: Path) -> list[Path]:
    """anno/UAV123/NAME.txt, several of them parts of one video."""
    return sorted((folder / "anno" / "UAV123").glob("*.txt"))


def read_uav(truth: Path, origin: float) -> list[ImageSequence]:
    """A target of a video in data_seq/UAV123/."""
    boxes, videos = read_boxes(truth), truth.parents[2] / "data_seq" / "UAV123"
    whole, part = (videos / name for name in _name_video(truth.stem))
    start = UAV_STARTS.get(truth.stem, 1)
    images = _list_named(whole if whole.is_dir() else part)
    images = [image for image in images if number_image(image) >= start]
    return [build_sequence(truth.stem, cut_images(truth, images, len(boxes)), boxes, origin)]


def find_nfs(folder: Path) -> list[Path]:
    """The dataset's own folders at 30 frames per second, or the release's sequences/ and anno/."""
    prepared = (folder / "anno").is_dir()
    return sorted(folder.glob("anno/*.txt" if prepared else f"*/{RATE}/*.txt"))


def read_nfs(truth: Path, origin: float) -> list[ImageSequence]:
    """A target in either form."""
    own = truth.parent.name == RATE
    return [_read_original(truth, origin) if own else _read_prepared(truth, origin)]


def _name_video(name: str) -> tuple[str, str]:
    """A target's own folder, or that of the video it is a part of."""
    return name, re.sub(r"_\d+$", "", name)


def _list_named(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise SourceError(f"images {str(folder)!r}", found="no such folder", expected="images")
    return list_images(folder)


def _read_prepared(truth: Path, origin: float) -> ImageSequence:
    name = truth.stem.removeprefix("nfs_")
    images = _list_named(truth.parents[1] / "sequences" / name)
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
