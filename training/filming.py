"""From a shot to the crops a tracker would see of it: read, cut, mirrored, brightened."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from relo_edge.errors import SourceError
from relo_edge.geometry import Box, CropWindow, box_in_template, crop_into, place_crop, read_box
from relo_edge.opencv import cv2
from relo_edge.quiet import hush_libraries
from relo_edge.sources.files import read_image
from relo_edge.spec import Variant
from relo_edge.targets import clip_to_picture, is_usable
from relo_edge.training.footage import Shot, UnfitShot
from relo_edge.training.render import LEAST_SEEN, Jitter, place_views
from relo_edge.video import Frame

__all__ = ["Film", "film_shot"]

BRIGHTNESS = 0.2
"""How far a crop's gain may be from 1."""

REDUCED = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
SPARE = 2
"""Pixels that a picture read at a smaller size still has for one of the crop's: the tracker's crops
of large targets skip pixels, and so must these."""

JPEG = (".jpg", ".jpeg")
TAIL = 1024
"""Bytes at a JPEG's end in which its end mark must be."""


class Film(NamedTuple):
    """One clip of F search frames; what the arrays mean is said by `ClipBatch`."""

    template: NDArray[np.uint8]
    template_box: NDArray[np.float32]
    searches: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    seen: NDArray[np.bool_]


class _View(NamedTuple):
    """A square around a box of the whole picture, to be shown at so many pixels."""

    box: Box
    factor: float
    size: int

    @property
    def reduction(self) -> int:
        """How much smaller the picture may be read."""
        side = place_crop(*self).side
        return next(by for by in REDUCED if by == 1 or side >= by * SPARE * self.size)


def film_shot(shot: Shot, variant: Variant, jitter: Jitter, rng: np.random.Generator) -> Film:
    """Cut the crops out of the shot's pictures, off their targets as in synthetic clips."""
    views = _place_shot(shot, variant, jitter, rng)
    film = _allot_film(variant, len(views) - 1)
    pictures = _read_pictures(shot, views)
    mirrored = rng.random() < 0.5
    for index, (view, box) in enumerate(zip(views, shot.boxes, strict=True)):
        picture, reduction = pictures[shot.pictures[index]]
        shown = _keep_visible(shot, read_box(box), picture, reduction)
        window = place_crop(_shrink(view.box, reduction), view.factor, view.size)
        crop = film.searches[index - 1] if index else film.template
        _cut_crop(crop, picture, window, 1 + BRIGHTNESS * rng.uniform(-1, 1), mirrored)
        if index:
            film.boxes[index - 1] = _box_in_crop(_shrink(shown, reduction), window, mirrored)
        else:
            # It lies in the middle, so its mirror image is itself.
            film.template_box[:] = box_in_template(_shrink(view.box, reduction), window, view.size)
    centres = film.boxes[:, :2]
    film.seen[:] = ((centres > 0) & (centres < 1)).all(axis=1)
    return film


def _place_shot(
    shot: Shot, variant: Variant, jitter: Jitter, rng: np.random.Generator
) -> list[_View]:
    """The template's view is the tracker's, the others' centres and sides are wrong."""
    protocol = variant.protocol()
    boxes = torch.from_numpy(shot.boxes)[None]
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    centre = boxes[..., :2] + boxes[..., 2:] / 2
    placed = place_views(centre, boxes[..., 2:], protocol, jitter, generator)
    middles, sides = placed.middles[0, 1:].numpy(), placed.sides[0, 1:, None].numpy()
    guessed = sides / protocol.search_factor
    squares = np.hstack([middles - guessed / 2, guessed, guessed])
    template = _View(read_box(shot.boxes[0]), protocol.template_factor, variant.template_size)
    return [template] + [
        _View(read_box(square), protocol.search_factor, variant.search_size) for square in squares
    ]


def _allot_film(variant: Variant, frames: int) -> Film:
    template, search = variant.template_size, variant.search_size
    return Film(
        np.empty((template, template, 3), np.uint8),
        np.empty(4, np.float32),
        np.empty((frames, search, search, 3), np.uint8),
        np.empty((frames, 4), np.float32),
        np.empty(frames, np.bool_),
    )


def _read_pictures(shot: Shot, views: list[_View]) -> dict[Path, tuple[Frame, int]]:
    """Each picture once, as small as the view that needs most of it allows."""
    reductions: dict[Path, int] = {}
    for path, view in zip(shot.pictures, views, strict=True):
        reductions[path] = min(view.reduction, reductions.get(path, max(REDUCED)))
    pictures = {path: (_read_reduced(path, by), by) for path, by in reductions.items()}
    for path, (picture, by) in pictures.items():
        height, width = picture.shape[:2]
        if shot.size and any(
            abs(told - found * by) >= by
            for told, found in zip(shot.size, (width, height), strict=True)
        ):
            raise SourceError(
                f"image {str(path)!r}",
                found=f"{width * by}x{height * by} pixels",
                expected="{}x{}, as annotated".format(*shot.size),
            )
    return pictures


def _read_reduced(path: Path, reduction: int) -> Frame:
    """A JPEG is decoded at the smaller size, which takes less time; other kinds are averaged."""
    with hush_libraries():
        if path.suffix.lower() in JPEG:
            image = read_image(path, REDUCED[reduction])
            _check_end(path)
            return image
        image = read_image(path)
    if reduction == 1:
        return image
    height, width = (side // reduction for side in image.shape[:2])
    whole = image[: height * reduction, : width * reduction]
    averaged = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return averaged.astype(np.uint8, copy=False)


def _check_end(path: Path) -> None:
    """What is missing at the end of a JPEG comes as grey, without a word."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        if b"\xff\xd9" not in file.read():
            raise SourceError(f"image {str(path)!r}", found="no end", expected="a whole JPEG")


def _keep_visible(shot: Shot, box: Box, picture: Frame, reduction: int) -> Box:
    """The part of the target that is in the picture."""
    height, width = picture.shape[:2]
    shown = clip_to_picture(box, (width * reduction, height * reduction))
    if not is_usable(shown) or shown[2] * shown[3] < LEAST_SEEN * box[2] * box[3]:
        raise UnfitShot(f"{shot.name} has a target that its picture hardly shows")
    return shown


def _shrink(box: Box, reduction: int) -> Box:
    x, y, width, height = (value / reduction for value in box)
    return (x, y, width, height)


def _cut_crop(
    crop: NDArray[np.uint8], picture: Frame, window: CropWindow, gain: float, mirrored: bool
) -> None:
    """The tracker's own crop, in RGB, brighter or darker, perhaps mirrored."""
    scratch = cv2.convertScaleAbs(crop_into(crop, picture, window), alpha=gain)
    crop[:] = scratch[:, ::-1, ::-1] if mirrored else scratch[..., ::-1]


def _box_in_crop(box: Box, window: CropWindow, mirrored: bool) -> NDArray[np.float32]:
    """cx, cy, w, h from 0 to 1."""
    x, y, width, height = box
    cx, cy = x + width / 2 - window.left, y + height / 2 - window.top
    shown = np.array([cx, cy, width, height], np.float64) / window.side
    if mirrored:
        shown[0] = 1 - shown[0]
    return shown.astype(np.float32)
