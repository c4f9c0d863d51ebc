"""Datasets in which each sequence is a folder with its own ground truth."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.box_files import read_boxes
from relo_edge.datasets.matching import cut_images, number_image, withhold_boxes
from relo_edge.datasets.published_splits import LASOT_TEST, OTB_OMITTED, OTB_RANGES
from relo_edge.datasets.sequences import (
    TARGET_TRUTH,
    ImageSequence,
    build_sequence,
    find_truth,
    read_origin,
    read_sequence,
)
from relo_edge.errors import SourceError
from relo_edge.video.opening import list_images

__all__ = [
    "find_got10k",
    "find_got10k_training",
    "find_lasot",
    "find_lasot_training",
    "find_otb",
    "find_plain",
    "find_tnl2k",
    "read_got10k",
    "read_lasot",
    "read_otb",
    "read_plain",
    "read_tnl2k",
]

log = logging.getLogger("relo_edge")


def find_plain(folder: Path) -> list[Path]:
    """A folder of sequences, or one sequence."""
    if find_truth(folder):
        return [folder]
    return _list_folders(folder, filter(find_truth, folder.iterdir()))


def read_plain(place: Path, origin: float) -> list[ImageSequence]:
    """Images beside their ground truth."""
    return [read_sequence(place, origin)]


def find_otb(folder: Path) -> list[Path]:
    """The dataset's videos."""
    return _list_folders(folder, folder.iterdir())


def read_otb(place: Path, origin: float) -> list[ImageSequence]:
    """Images in img/, a ground truth for each target, and some sequences that start late."""
    # Human4 has an empty file for a first target that does not count.
    targets = {
        path: match.group(1)
        for path in sorted(place.iterdir())
        if (match := TARGET_TRUTH.fullmatch(path.name)) and path.read_bytes().strip()
    }
    sequences = []
    for truth, target in targets.items():
        name = f"{place.name}.{target}" if len(targets) > 1 else place.name
        boxes = read_boxes(truth)
        images = _choose_range(place, truth, len(boxes))
        skipped = OTB_OMITTED.get(place.name, 0)
        origin = read_origin(place, origin)
        sequences.append(build_sequence(name, images[skipped:], boxes[skipped:], origin))
    return sequences


def find_lasot(folder: Path) -> list[Path]:
    """Classes of sequences: LaSOT's test part of them, where there is more than that."""
    folders = _list_lasot(folder)
    chosen = [one for one in folders if one.name in LASOT_TEST]
    if chosen and len(chosen) < len(folders):
        log.info("left out %d sequences of LaSOT's training part", len(folders) - len(chosen))
    return chosen or folders


def find_lasot_training(folder: Path) -> list[Path]:
    """All but LaSOT's test part."""
    folders = _list_lasot(folder)
    chosen = [one for one in folders if one.name not in LASOT_TEST]
    if len(chosen) < len(folders):
        log.info("left out %d sequences of LaSOT's test part", len(folders) - len(chosen))
    return chosen


def read_lasot(place: Path, origin: float) -> list[ImageSequence]:
    """Images in img/, labelled where the target is hidden."""
    sequence = _read_cut(place, origin)
    hidden = np.zeros(len(sequence.boxes), np.bool_)
    for label in ("full_occlusion.txt", "out_of_view.txt"):
        hidden |= _read_label(place / label, len(hidden)) != 0
    return [replace(sequence, hidden=hidden)]


def find_tnl2k(folder: Path) -> list[Path]:
    """The folders that have a ground truth."""
    return [truth.parent for truth in sorted(folder.glob("*/groundtruth.txt"))]


def read_tnl2k(place: Path, origin: float) -> list[ImageSequence]:
    """Images in imgs/; an absent target has a box of zeros."""
    return [_read_cut(place, origin)]


def find_got10k(folder: Path) -> list[Path]:
    """What the list names; without one, the folders that have a ground truth."""
    listed = folder / "list.txt"
    if not listed.is_file():
        return [truth.parent for truth in sorted(folder.glob("*/groundtruth.txt"))]
    names = listed.read_text(encoding="utf-8", errors="replace").splitlines()
    return [folder / name.strip() for name in names if name.strip()]


def find_got10k_training(folder: Path) -> list[Path]:
    """Of what the list names, what has been downloaded: it comes in nineteen parts."""
    folders = find_got10k(folder)
    there = [one for one in folders if one.is_dir()]
    if there and len(there) < len(folders):
        log.info("%d sequences that list.txt names are not there", len(folders) - len(there))
    return there or folders


def read_got10k(place: Path, origin: float) -> list[ImageSequence]:
    """A sequence of train or val with its labels, or one of test with its first box only."""
    if not place.is_dir():
        raise SourceError(
            f"sequence {str(place)!r}", found="no such folder", expected="what list.txt names"
        )
    boxes, images = read_boxes(place / "groundtruth.txt"), list_images(place)
    if len(boxes) == 1 < len(images):
        return [withhold_boxes(build_sequence(place.name, images[:1], boxes, origin), images)]
    sequence = build_sequence(place.name, cut_images(place, images, len(boxes)), boxes, origin)
    cover = _read_label(place / "cover.label", len(boxes))
    away = place / "absence.label"
    return [
        replace(
            sequence,
            hidden=cover == 0,
            away=_read_label(away, len(boxes)) != 0 if away.is_file() else None,
            picture=_read_resolution(place),
        )
    ]


def _list_lasot(folder: Path) -> list[Path]:
    truths = sorted(folder.glob("*/*/groundtruth.txt")) or sorted(folder.glob("*/groundtruth.txt"))
    return [truth.parent for truth in truths]


def _list_folders(folder: Path, found: Iterable[Path]) -> list[Path]:
    return sorted(path for path in found if path.is_dir() and path != folder)


def _choose_range(folder: Path, truth: Path, boxes: int) -> list[Path]:
    images = list_images(folder)
    if len(images) != boxes and folder.name in OTB_RANGES:
        first, last = OTB_RANGES[folder.name]
        images = [image for image in images if first <= number_image(image) <= last]
    if len(images) != boxes:
        raise SourceError(
            f"sequence {str(folder)!r}",
            found=f"{len(images)} images and {boxes} boxes in {truth.name}",
            expected="a box for each image",
        )
    return images


def _read_cut(folder: Path, origin: float) -> ImageSequence:
    boxes = read_boxes(folder / "groundtruth.txt")
    images = cut_images(folder, list_images(folder), len(boxes))
    return build_sequence(folder.name, images, boxes, read_origin(folder, origin))


def _read_label(file: Path, length: int) -> NDArray[np.float64]:
    """A number for each frame, in lines or separated by commas."""
    try:
        words = file.read_text(encoding="utf-8-sig").replace(",", " ").split()
        values = np.array(words, np.float64)
    except FileNotFoundError:
        raise SourceError(f"{file}", found="no such file", expected="a label per frame") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{file} cannot be read", found=error, expected="numbers") from None
    if len(values) != length:
        raise SourceError(f"{file}", found=f"{len(values)} labels", expected=f"{length}")
    return values


def _read_resolution(folder: Path) -> tuple[int, int]:
    file = folder / "meta_info.ini"
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    found = re.search(r"^resolution:\s*\(?\s*(\d+)\s*,\s*(\d+)", text, re.MULTILINE)
    if not found:
        raise SourceError(
            f"{file}", found="no resolution", expected="a line such as resolution: (1920, 1080)"
        )
    return int(found.group(1)), int(found.group(2))
