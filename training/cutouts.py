"""Real objects for synthetic clips: cut along their outlines, with the pictures they came from."""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.datasets.coco import BROKEN, choose_annotations, find_pictures, holds_coco
from relo_edge.errors import InputError, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.training.outlines import Points, decode_mask, support_points
from relo_edge.video.sources.files import read_image

__all__ = ["Cutout", "Photo", "check_folders", "cut_object", "read_photos"]

log = logging.getLogger("relo_edge")

Image = NDArray[np.uint8]

SMALLEST_SIDE = 24
"""Pixels of an object's shorter side; smaller ones are too blurred when they are drawn larger."""
LEAST_FILLED = 0.15
"""Share of its box that an object fills; less is a few scattered pieces."""
CATEGORIES = 1_000_000
"""More than a folder has."""
HELD_OUT = 10
"""One picture of so many, chosen by its name, is kept for trials and never trained on."""
FEATHER = 0.7
"""Standard deviation, in the sprite's pixels, of the blur of a cut-out's edge."""
FILLED = 0.92
"""Share of the sprite's side that the object's longer side takes."""


@dataclass(frozen=True, eq=False)
class OutlinedObject:
    """One annotated object of a picture."""

    category: int
    box: tuple[float, float, float, float]
    """x, y, w, h in pixels: of the outline, since boxes drawn by hand can be loose."""
    segmentation: Any
    """COCO polygons or run lengths, as they were read."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture in memory, RGB, with the objects in it that have an outline."""

    name: str
    image: Image
    objects: tuple[OutlinedObject, ...]

    def mask(self, index: int) -> Image:
        """The object's pixels, 0 or 1."""
        return decode_mask(self.objects[index].segmentation, self.image.shape[:2])


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object without its surroundings."""

    texture: Image
    """[side,side,4] RGB and opacity."""
    outline: Points
    """[points,2] from -1 to 1 over the texture."""


def read_photos(folders: Sequence[Path], *, held_out: bool = False) -> list[Photo]:
    """The pictures of COCO folders: those to train on, or those kept for trials."""
    check_folders(folders)
    numbered = enumerate(folders)
    photos = [
        photo for place, folder in numbered for photo in _read_folder(folder, place, held_out)
    ]
    if folders and not any(photo.objects for photo in photos):
        raise SourceError(
            "--cutouts", found="no object with an outline", expected="COCO polygons or run lengths"
        )
    return photos


def cut_object(photo: Photo, index: int, side: int) -> Cutout:
    """The object scaled to a sprite of so many pixels, its edge feathered."""
    mask = photo.mask(index)
    x, y, width, height = photo.objects[index].box
    scale = FILLED * side / max(width, height)
    # Pixel i of a picture spans i to i + 1.
    shift = side / 2 - scale * np.array([x + width / 2, y + height / 2]) + 0.5 * scale - 0.5
    move = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    way = cv2.INTER_LINEAR
    image, opacity = photo.image, mask.astype(np.float32)
    if scale < 0.5:  # linear sampling would skip pixels
        blur = 0.4 / scale
        image = cv2.GaussianBlur(image, (0, 0), blur).astype(np.uint8, copy=False)
        opacity = cv2.GaussianBlur(opacity, (0, 0), blur).astype(np.float32, copy=False)
    colour = cv2.warpAffine(image, move, (side, side), flags=way, borderMode=cv2.BORDER_REPLICATE)
    soft = cv2.GaussianBlur(cv2.warpAffine(opacity, move, (side, side), flags=way), (0, 0), FEATHER)
    opaque = np.rint(soft * 255).clip(0, 255).astype(np.uint8)
    rows, columns = np.nonzero(mask)
    corners = np.stack([columns, rows], axis=1)[:, None] + np.array(
        [[0, 0], [0, 1], [1, 0], [1, 1]]
    )
    points = (corners.reshape(-1, 2) - (x + width / 2, y + height / 2)) * scale * 2 / side
    return Cutout(np.dstack([colour, opaque]).astype(np.uint8), support_points(points))


def check_folders(folders: Iterable[Path]) -> None:
    """Refuse what is no COCO folder, before anything takes long."""
    for folder in folders:
        if not folder.is_dir() or not holds_coco(folder):
            raise InputError(
                f"--cutouts {str(folder)!r}", found="no COCO annotations", expected="a COCO folder"
            )


def _read_folder(folder: Path, place: int, held_out: bool) -> Iterable[Photo]:
    """`place` tells the folder's categories from those of the same numbers in others."""
    file = choose_annotations(folder)
    pictures = find_pictures(folder, file.stem.removeprefix("instances_"))
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        told: dict[str, list[Any]] = {name: [] for name in sorted(names.values())}
        for entry in content["annotations"]:
            if entry["image_id"] in names and entry.get("segmentation"):
                told[names[entry["image_id"]]].append(entry)
    except OSError as error:
        raise SourceError(f"{file} cannot be read", found=error.strerror) from None
    except BROKEN as error:
        found = f"{type(error).__name__} {error}"
        raise SourceError(f"{file}", found=found, expected="COCO annotations") from None
    left_out: list[str] = []
    broken: list[str] = []
    for name, entries in told.items():
        if (zlib.crc32(name.encode()) % HELD_OUT == 0) != held_out:
            continue
        try:
            image = read_image(pictures / name)
        except SourceError as error:
            left_out.append(str(error))
            continue
        if min(image.shape[:2]) < SMALLEST_SIDE:
            continue
        rgb = cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        yield Photo(name, rgb, tuple(_list_objects(entries, rgb.shape[:2], place, broken)))
    for what, reasons in (("pictures", left_out), ("objects", broken)):
        if reasons:
            log.warning("left out %d of %s's %s: %s", len(reasons), folder.name, what, reasons[0])


def _list_objects(
    entries: Iterable[Any], shape: tuple[int, ...], place: int, broken: list[str]
) -> Iterable[OutlinedObject]:
    for entry in entries:
        if entry.get("iscrowd"):
            continue
        try:
            mask = decode_mask(entry["segmentation"], shape)
        except SourceError as error:
            broken.append(f"annotation {entry.get('id')}: {error}")
            continue
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not len(rows):
            continue
        width, height = int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
        if min(width, height) >= SMALLEST_SIDE and mask.sum() >= LEAST_FILLED * width * height:
            box = (float(columns[0]), float(rows[0]), float(width), float(height))
            category = place * CATEGORIES + int(entry.get("category_id", 0))
            yield OutlinedObject(category, box, entry["segmentation"])
