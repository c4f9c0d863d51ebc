"""Crops of a real clip as the tracker would cut them, with augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from relo_edge.errors import SourceError
from relo_edge.geometry import (
    SMALLEST,
    Box,
    CropWindow,
    box_in_template,
    clip_to_picture,
    crop_into,
    place_crop,
    read_box,
)
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.spec import Variant
from relo_edge.training.real_clips import ClipFrames, UnusableClip
from relo_edge.training.render import LEAST_SEEN, Jitter, place_views
from relo_edge.video.opening import Frame
from relo_edge.video.sources.files import read_image

__all__ = ["BRIGHTNESS", "ClipCrops", "View", "box_template", "check_boxes", "cut_clip", "cut_crop"]
__all__ += ["keep_visible", "read_pictures"]

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

WIDEST = 8192
"""Pixels of a crop's side before it is scaled: nothing real is larger, and memory is finite."""

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class ClipCrops(NamedTuple):
    """One clip of F search frames; what the arrays mean is said by `ClipBatch`."""

    template: NDArray[np.uint8]
    template_box: NDArray[np.float32]
    searches: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    seen: NDArray[np.bool_]


class View(NamedTuple):
    """A square around a box of the whole picture, to be shown at so many pixels."""

    box: Box
    factor: float
    size: int

    @property
    def reduction(self) -> int:
        """How much smaller the picture may be read."""
        side = place_crop(*self).side
        return next(by for by in REDUCED if by == 1 or side >= by * SPARE * self.size)


class Reading(NamedTuple):
    """A picture, and how much smaller than on the disk it was read."""

    frame: Frame
    reduction: int

    def shrink(self, box: Box) -> Box:
        """The box in this picture's pixels."""
        x, y, width, height = (value / self.reduction for value in box)
        return (x, y, width, height)


def cut_clip(
    clip: ClipFrames, variant: Variant, jitter: Jitter, rng: np.random.Generator
) -> ClipCrops:
    """Cut the crops out of the clip's pictures, off their targets as in synthetic clips."""
    check_boxes(clip)
    views = _place_views(clip, variant, jitter, rng)
    readings = read_pictures(clip, views)
    mirrored = rng.random() < 0.5
    crops, boxes = [], []
    for view, path, row in zip(views, clip.pictures, clip.boxes, strict=True):
        reading = readings[path]
        shown = keep_visible(clip, read_box(row), reading)
        window = place_crop(reading.shrink(view.box), view.factor, view.size)
        gain = 1 + BRIGHTNESS * rng.uniform(-1, 1)
        crops.append(cut_crop(clip, reading.frame, window, view.size, gain, mirrored))
        boxes.append(_box_in_crop(shown, window, mirrored))
    told = np.stack(boxes[1:])
    inside = (told[:, :2] > 0) & (told[:, :2] < 1)
    template_box = box_template(views[0], readings[clip.pictures[0]])
    seen = np.asarray(inside.all(axis=1))
    return ClipCrops(crops[0], template_box, np.stack(crops[1:]), told.astype(np.float32), seen)


def check_boxes(clip: ClipFrames) -> None:
    """Checked before any picture is read, which takes longest."""
    sides = clip.boxes[:, 2:]
    if not ((sides >= SMALLEST) & (sides < WIDEST)).all():
        raise UnusableClip(
            f"{clip.name} has a target too small to follow, or wider than any picture"
        )


def _place_views(
    clip: ClipFrames, variant: Variant, jitter: Jitter, rng: np.random.Generator
) -> list[View]:
    """The template's view as the tracker places it, search views jittered."""
    protocol = variant.protocol()
    boxes = torch.from_numpy(clip.boxes)[None]
    generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
    centre = boxes[..., :2] + boxes[..., 2:] / 2
    placed = place_views(centre, boxes[..., 2:], protocol, jitter, generator)
    middles, sides = placed.middles[0, 1:].numpy(), placed.sides[0, 1:, None].numpy()
    guessed = sides / protocol.search_factor
    squares = np.hstack([middles - guessed / 2, guessed, guessed])
    template = View(read_box(clip.boxes[0]), protocol.template_factor, variant.template_size)
    return [template] + [
        View(read_box(square), protocol.search_factor, variant.search_size) for square in squares
    ]


def read_pictures(clip: ClipFrames, views: list[View]) -> dict[Path, Reading]:
    """Each picture once, as small as the view that needs most of it allows."""
    reductions: dict[Path, int] = {}
    for path, view in zip(clip.pictures, views, strict=True):
        reductions[path] = min(view.reduction, reductions.get(path, max(REDUCED)))
    readings = {path: Reading(_read_reduced(path, by), by) for path, by in reductions.items()}
    if clip.size:
        for path, reading in readings.items():
            _check_size(path, reading, clip.size)
    return readings


def _check_size(path: Path, reading: Reading, size: tuple[int, int]) -> None:
    """Compare with the annotated size, up to the rounding of a reduced picture."""
    height, width = (side * reading.reduction for side in reading.frame.shape[:2])
    if max(abs(width - size[0]), abs(height - size[1])) >= reading.reduction:
        raise SourceError(
            f"image {str(path)!r}",
            found=f"{width}x{height} pixels",
            expected="{}x{}, as annotated".format(*size),
        )


def _read_reduced(path: Path, reduction: int) -> Frame:
    """A JPEG is decoded at the smaller size, which takes less time; other kinds are averaged."""
    jpeg = _is_jpeg(path)
    with silence_native_stderr():
        image = read_image(path, REDUCED[reduction if jpeg else 1])
    if jpeg or reduction == 1:
        return image
    height, width = (side // reduction for side in image.shape[:2])
    whole = image[: height * reduction, : width * reduction]
    averaged = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
    return averaged.astype(np.uint8, copy=False)


def _is_jpeg(path: Path) -> bool:
    """By its first bytes; truncated files are refused, since OpenCV fills them with grey."""
    content = path.read_bytes() if path.is_file() else b""
    if not content.startswith(JPEG_START):
        return False
    # Cameras append to their files, and a thumbnail at the start has an end of its own.
    if content.rfind(JPEG_END) < len(content) / 2:
        raise SourceError(f"image {str(path)!r}", found="half of it", expected="a whole JPEG")
    return True


def keep_visible(clip: ClipFrames, box: Box, reading: Reading) -> Box:
    """The part of the target that is in the picture, in its pixels as they were read."""
    height, width = reading.frame.shape[:2]
    x, y, *sides = reading.shrink(box)
    shown = clip_to_picture((x, y, sides[0], sides[1]), (width, height))
    if min(shown[2:]) <= 0 or shown[2] * shown[3] < LEAST_SEEN * sides[0] * sides[1]:
        raise UnusableClip(f"{clip.name} has a target that its picture hardly shows")
    return shown


def cut_crop(
    clip: ClipFrames,
    frame: Frame,
    window: CropWindow,
    size: int,
    gain: float,
    mirrored: bool,
) -> Frame:
    """The tracker's own crop, in RGB, brighter or darker, perhaps mirrored."""
    if window.side > WIDEST:
        raise UnusableClip(f"{clip.name} needs a crop of {window.side} pixels")
    crop = crop_into(np.empty((size, size, 3), np.uint8), frame, window)
    lit = cv2.convertScaleAbs(crop, alpha=gain).astype(np.uint8, copy=False)
    return np.ascontiguousarray(lit[:, ::-1, ::-1] if mirrored else lit[..., ::-1])


def box_template(view: View, reading: Reading) -> NDArray[np.float32]:
    """The template's box; centred, so mirroring does not change it."""
    box = reading.shrink(view.box)
    return box_in_template(box, place_crop(box, view.factor, view.size), view.size)


def _box_in_crop(box: Box, window: CropWindow, mirrored: bool) -> NDArray[np.float64]:
    """cx, cy, w, h from 0 to 1."""
    x, y, width, height = box
    cx, cy = x + width / 2 - window.left, y + height / 2 - window.top
    shown = np.array([cx, cy, width, height]) / window.side
    if mirrored:
        shown[0] = 1 - shown[0]
    return shown
