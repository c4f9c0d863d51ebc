"""Datasets in which each sequence is a folder with its own ground truth."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.datasets.facts import LASOT_TEST, OTB_OMITTED, OTB_RANGES
from relo_edge.datasets.matching import cut_images, number_image, withhold_boxes
from relo_edge.errors import SourceError
from relo_edge.sequences import (
    ImageSequence,
    build_sequence,
    find_truth,
    read_boxes,
    read_origin,
    read_sequence,
)
from relo_edge.video import list_images

__all__ = ["read_got10k", "read_lasot", "read_otb", "read_plain", "read_tnl2k"]

log = logging.getLogger("relo_edge")

TARGET = re.compile(r"groundtruth_rect(?:\.(\d+))?\.txt")


def read_plain(folder: Path, origin: float) -> list[ImageSequence]:
    """A folder of sequences, or one sequence."""
    folders = (
        [folder]
        if find_truth(folder)
        else _list_folders(folder, filter(find_truth, folder.iterdir()))
    )
    return [read_sequence(one, origin) for one in folders]


def read_otb(folder: Path, origin: float) -> list[ImageSequence]:
    """Images in img/, a ground truth for each target, and some sequences that start late."""
    return [
        sequence
        for one in _list_folders(folder, folder.iterdir())
        for sequence in _read_otb_targets(one, origin)
    ]


def read_lasot(folder: Path, origin: float) -> list[ImageSequence]:
    """Classes of sequences, labelled where the target is hidden; LaSOT's test part of them."""
    truths = sorted(folder.glob("*/*/groundtruth.txt")) or sorted(folder.glob("*/groundtruth.txt"))
    folders = _choose_test([truth.parent for truth in truths])
    return [_read_labelled(one, origin) for one in folders]


def read_tnl2k(folder: Path, origin: float) -> list[ImageSequence]:
    """Images in imgs/; an absent target has a box of zeros."""
    folders = [truth.parent for truth in sorted(folder.glob("*/groundtruth.txt"))]
    return [_read_cut(one, origin) for one in folders]


def read_got10k(folder: Path, origin: float) -> list[ImageSequence]:
    """The val folder with its labels, or the test folder with first boxes only."""
    listed = folder / "list.txt"
    if listed.is_file():
        names = listed.read_text(encoding="utf-8", errors="replace").splitlines()
        folders = [folder / name.strip() for name in names if name.strip()]
    else:
        folders = [truth.parent for truth in sorted(folder.glob("*/groundtruth.txt"))]
    return [_read_got10k_sequence(one, origin) for one in folders]


def _list_folders(folder: Path, found: Iterable[Path]) -> list[Path]:
    return sorted(path for path in found if path.is_dir() and path != folder)


def _read_otb_targets(folder: Path, origin: float) -> list[ImageSequence]:
    # Human4 has an empty file for a first target that does not count.
    targets = {
        path: match.group(1)
        for path in sorted(folder.iterdir())
        if (match := TARGET.fullmatch(path.name)) and path.read_bytes().strip()
    }
    sequences = []
    for truth, target in targets.items():
        name = f"{folder.name}.{target}" if len(targets) > 1 else folder.name
        boxes = read_boxes(truth)
        images = _choose_range(folder, truth, len(boxes))
        skipped = OTB_OMITTED.get(folder.name, 0)
        origin = read_origin(folder, origin)
        sequences.append(build_sequence(name, images[skipped:], boxes[skipped:], origin))
    return sequences


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


def _choose_test(folders: list[Path]) -> list[Path]:
    chosen = [folder for folder in folders if folder.name in LASOT_TEST]
    if chosen and len(chosen) < len(folders):
        log.info("left out %d sequences of LaSOT's training part", len(folders) - len(chosen))
    return chosen or folders


def _read_cut(folder: Path, origin: float) -> ImageSequence:
    boxes = read_boxes(folder / "groundtruth.txt")
    images = cut_images(folder, list_images(folder), len(boxes))
    return build_sequence(folder.name, images, boxes, read_origin(folder, origin))


def _read_labelled(folder: Path, origin: float) -> ImageSequence:
    sequence = _read_cut(folder, origin)
    hidden = np.zeros(len(sequence.boxes), np.bool_)
    for label in ("full_occlusion.txt", "out_of_view.txt"):
        hidden |= _read_label(folder / label, len(hidden)) != 0
    return replace(sequence, hidden=hidden)


def _read_got10k_sequence(folder: Path, origin: float) -> ImageSequence:
    if not folder.is_dir():
        raise SourceError(
            f"sequence {str(folder)!r}", found="no such folder", expected="what list.txt names"
        )
    boxes, images = read_boxes(folder / "groundtruth.txt"), list_images(folder)
    if len(boxes) == 1 < len(images):
        return withhold_boxes(build_sequence(folder.name, images[:1], boxes, origin), images)
    sequence = build_sequence(folder.name, cut_images(folder, images, len(boxes)), boxes, origin)
    cover = _read_label(folder / "cover.label", len(boxes))
    return replace(sequence, hidden=cover == 0, picture=_read_resolution(folder))


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
