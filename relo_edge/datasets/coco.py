"""COCO folders: pictures with many boxes, each of them one target."""

from __future__ import annotations

import json
import logging
import mmap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, SourceError
from relo_edge.geometry import SMALLEST, has_area

__all__ = [
    "BROKEN",
    "BoxedPictures",
    "choose_annotations",
    "find_pictures",
    "holds_coco",
    "read_coco",
]

log = logging.getLogger("relo_edge")

ANNOTATIONS = "annotations/instances_*.json"
BROKEN = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)


@dataclass(frozen=True, eq=False)
class BoxedPictures:
    """Which boxes lie in which pictures; the pictures are left unread."""

    folder: Path
    names: tuple[str, ...]
    sizes: NDArray[np.int64]
    """[P,2] width and height of each picture."""
    owners: NDArray[np.int64]
    """[n] the picture of each box."""
    boxes: NDArray[np.float64]
    """[n,4] x, y, w, h, counted from 0."""


class _Picture(NamedTuple):
    id: int
    name: str
    width: int
    height: int


class _Box(NamedTuple):
    picture: int
    box: list[float]
    crowd: bool


def holds_coco(folder: Path) -> bool:
    """Whether the folder has annotations of that kind."""
    return next(folder.glob(ANNOTATIONS), None) is not None


def read_coco(folder: Path) -> BoxedPictures:
    """The boxes that can be followed: crowds and specks are left out."""
    file = choose_annotations(folder)
    pictures = find_pictures(folder, file.stem.removeprefix("instances_"))
    log.info("reading %s", file)
    try:
        content = _parse_slim(file)
        found = _join(content["images"], content["annotations"], pictures)
    except OSError as error:
        raise SourceError(f"{file} cannot be read", found=error.strerror) from None
    except BROKEN as error:
        raise SourceError(
            f"{file} holds no COCO annotations",
            found=f"{type(error).__name__} {error}",
            expected="images with id, file_name, width, height; annotations with image_id, bbox",
        ) from None
    if not len(found.boxes):
        raise SourceError(f"{file}", found="no box that can be followed", expected="one or more")
    return found


def choose_annotations(folder: Path) -> Path:
    """The training part of several; of these the last by name, which is the newest."""
    files = sorted(folder.glob(ANNOTATIONS))
    return ([file for file in files if "train" in file.name] or files)[-1]


def find_pictures(folder: Path, part: str) -> Path:
    """The folder that holds the pictures of a part such as train2017."""
    places = (folder / part, folder / "images" / part, folder / "images")
    for place in places:
        if place.is_dir():
            return place
    raise InputError(
        f"dataset {str(folder)!r} as COCO",
        found=f"no pictures of {part}",
        expected=" or ".join(str(place) for place in places),
    )


def _parse_slim(file: Path) -> dict[str, Any]:
    """The file's content without outlines, dropped as they are met: they would fill gigabytes."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        text = str(raw, "utf-8")
    content = json.loads(text, object_hook=_slim)
    if not isinstance(content, dict):
        raise TypeError(f"a {type(content).__name__}")
    return content


def _slim(entry: dict[str, Any]) -> _Box | _Picture | dict[str, Any]:
    if "bbox" in entry:
        return _Box(entry["image_id"], entry["bbox"], bool(entry.get("iscrowd")))
    if "file_name" in entry:
        return _Picture(entry["id"], entry["file_name"], entry["width"], entry["height"])
    return entry


def _join(images: Iterable[Any], annotations: Iterable[Any], folder: Path) -> BoxedPictures:
    pictures = [entry for entry in images if isinstance(entry, _Picture)]
    rows = {picture.id: row for row, picture in enumerate(pictures)}
    told = [entry for entry in annotations if isinstance(entry, _Box)]
    kept = [entry for entry in told if not entry.crowd and entry.picture in rows]
    boxes = np.array([entry.box for entry in kept], np.float64).reshape(len(kept), 4)
    owners = np.array([rows[entry.picture] for entry in kept], np.int64)
    usable = has_area(boxes) & (boxes[:, 2:] >= SMALLEST).all(axis=1)
    log.info("%d boxes of %d, without crowds and specks", usable.sum(), len(told))
    return BoxedPictures(
        folder.absolute(),
        tuple(str(picture.name) for picture in pictures),
        np.array([(picture.width, picture.height) for picture in pictures], np.int64),
        owners[usable],
        boxes[usable],
    )
