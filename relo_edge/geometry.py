"""Boxes, crops and the window, by the release's arithmetic to the last rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError
from relo_edge.host.opencv import cv2

__all__ = [
    "SMALLEST",
    "Box",
    "CropWindow",
    "box_in_frame",
    "box_in_template",
    "box_iou",
    "box_to_image",
    "check_box",
    "check_frame",
    "check_size",
    "clip_box",
    "clip_to_picture",
    "crop_into",
    "hann_window",
    "has_area",
    "is_usable",
    "place_crop",
    "read_box",
    "resize_frame",
]

Box = tuple[float, float, float, float]
"""x, y, w, h in pixels; x and y are the top left corner, counted from 0."""


def read_box(row: NDArray[np.floating]) -> Box:
    """The box in a row of an array, as plain numbers."""
    x, y, width, height = map(float, row)
    return (x, y, width, height)


class CropWindow(NamedTuple):
    """The square of the frame that a crop shows, and its scale: crop pixels per frame pixel."""

    left: int
    top: int
    side: int
    scale: float


def place_crop(box: Box, factor: float, size: int) -> CropWindow:
    """The square around a box, `factor` times its mean side, to be shown at `size` pixels."""
    x, y, width, height = box
    side = math.ceil(math.sqrt(width * height) * factor)
    if side < 1:
        raise InputError("box", found=f"{width:g}x{height:g} pixels", expected="an area to crop")
    # Python's round, halves to even, is part of the protocol.
    left = round(x + 0.5 * width - side * 0.5)
    top = round(y + 0.5 * height - side * 0.5)
    return CropWindow(left, top, side, size / side)


def crop_into(
    target: NDArray[np.uint8], frame: NDArray[np.uint8], window: CropWindow
) -> NDArray[np.uint8]:
    """Crop the window into `target` (size, size, 3), black outside the frame."""
    rows = _overlap(window.top, window.side, frame.shape[0])
    columns = _overlap(window.left, window.side, frame.shape[1])
    patch = frame[rows, columns]
    if patch.shape[:2] != (window.side, window.side):
        patch = _pad_patch(patch, window, rows.start, columns.start)
    size = target.shape[0]
    cv2.resize(patch, (size, size), dst=target)
    return target


def box_in_template(box: Box, window: CropWindow, size: int) -> NDArray[np.float32]:
    """The box in its own template crop: x, y, w, h, normalised as the release does it."""
    centre, last = (size - 1) / 2, size - 1
    shown = np.array([box[2] * window.scale, box[3] * window.scale])
    box_in_pixels = np.concatenate([centre - shown / 2, shown]).astype(np.float32)
    normalised: NDArray[np.float32] = box_in_pixels / np.float32(last)
    return normalised


def box_to_image(predicted: NDArray[np.float32], previous: Box, scale: float, size: int) -> Box:
    """A box in the search crop (cx, cy, w, h from 0 to 1) in the frame's pixels."""
    cx, cy, width, height = (float(value) * size / scale for value in predicted)
    half_side = 0.5 * size / scale
    cx += previous[0] + 0.5 * previous[2] - half_side
    cy += previous[1] + 0.5 * previous[3] - half_side
    return (cx - 0.5 * width, cy - 0.5 * height, width, height)


def resize_frame(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The whole frame as a square, averaged where it shrinks; its shape is not kept."""
    resized = cv2.resize(np.ascontiguousarray(frame), (size, size), interpolation=cv2.INTER_AREA)
    return resized.astype(np.uint8, copy=False)


def box_in_frame(box: Sequence[float] | Floats, picture: tuple[int, int]) -> NDArray[np.float32]:
    """The box's centre and size as shares of a picture's width and height."""
    x, y, width, height = box
    across, down = picture
    middle = ((x + width / 2) / across, (y + height / 2) / down)
    return np.array([*middle, width / across, height / down], np.float32)


def clip_box(box: Box, frame_width: int, frame_height: int, margin: float) -> Box:
    """The box clipped to the frame, no side below the margin."""
    x, y, width, height = box
    x, width = _clip_span(x, x + width, frame_width, margin)
    y, height = _clip_span(y, y + height, frame_height, margin)
    return (x, y, width, height)


def hann_window(grid: int, factor: float) -> NDArray[np.float32]:
    """The [grid,grid] weight that favours the crop's centre, raised to the protocol's power."""
    steps = np.arange(1, grid + 1)
    line = 0.5 * (1 - np.cos(2 * np.pi * steps / (grid + 1)))
    return (np.outer(line, line) ** factor).astype(np.float32)


def box_iou(first: Box, second: Box) -> float:
    """Intersection over union."""
    width = min(first[0] + first[2], second[0] + second[2]) - max(first[0], second[0])
    height = min(first[1] + first[3], second[1] + second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    union = first[2] * first[3] + second[2] * second[3] - shared
    return shared / union if union > 0 else 0.0


def _clip_span(low: float, high: float, limit: int, margin: float) -> tuple[float, float]:
    low = min(max(0.0, low), limit - margin)
    high = min(max(margin, high), limit)
    return low, max(margin, high - low)


def _overlap(start: int, side: int, limit: int) -> slice:
    """The part of start…start+side in the frame: never its last line, as in the release."""
    return slice(min(max(start, 0), limit), max(min(start + side, limit - 1), 0))


def _pad_patch(
    patch: NDArray[np.uint8], window: CropWindow, top: int, left: int
) -> NDArray[np.uint8]:
    canvas = np.zeros((window.side, window.side, 3), np.uint8)
    if patch.size:
        row, column = top - window.top, left - window.left
        canvas[row : row + patch.shape[0], column : column + patch.shape[1]] = patch
    return canvas


Boxes = NDArray[np.float64]
"""[n,4] x, y, w, h; a row with a NaN or without area is no box."""


Floats = NDArray[np.float64]


Flags = NDArray[np.bool_]


def has_area(boxes: Boxes) -> Flags:
    """The rows that are boxes: finite, with width and height."""
    finite = np.isfinite(boxes).all(axis=1)
    return np.asarray(finite & (np.nan_to_num(boxes[:, 2:]) > 0).all(axis=1))


SMALLEST = 4.0
"""Pixels that a side must have in the frame: less shows nothing to track."""


def clip_to_picture(box: Box, size: tuple[int, int]) -> Box:
    """The part of a box within the frame; its sides are 0 or less where there is none."""
    x, y, width, height = box
    left, top = max(x, 0.0), max(y, 0.0)
    return (left, top, min(x + width, size[0]) - left, min(y + height, size[1]) - top)


def is_usable(box: Box) -> bool:
    """Whether a box is large enough to track; one with NaN is not."""
    return box[2] >= SMALLEST and box[3] >= SMALLEST


MAX_BOX_RATIO = 2
"""How many times the frame a start box may measure."""


def check_frame(frame: object) -> NDArray[np.uint8]:
    """The frame, if it can be tracked."""
    expected = "a uint8 array [height, width, 3]"
    if not isinstance(frame, np.ndarray):
        raise InputError("frame", found=type(frame).__name__, expected=expected)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
        found = f"{frame.dtype} {list(frame.shape)}"
        raise InputError("frame", found=found, expected=expected)
    return frame


def check_size(frame: NDArray[np.uint8], size: tuple[int, int]) -> None:
    """Refuse a frame of another size than this width and height, which its targets started on."""
    found = (frame.shape[1], frame.shape[0])
    if found != size:
        raise InputError(
            "frame size changed",
            found="{}x{}".format(*found),
            expected="{}x{}".format(*size),
            fix="start the target again on the new size",
        )


def check_box(box: Box, frame: NDArray[np.uint8]) -> Box:
    """The box, if it is finite, has an area, and lies partly in the frame."""
    try:
        x, y, width, height = (float(value) for value in box)
    except (TypeError, ValueError):
        raise InputError("box", found=box, expected="four numbers x, y, w, h") from None
    found = f"{x:g},{y:g},{width:g},{height:g}"
    if not all(math.isfinite(value) for value in (x, y, width, height)):
        raise InputError("box", found=found, expected="finite numbers")
    if width <= 0 or height <= 0:
        raise InputError("box", found=found, expected="a width and height above 0")
    rows, columns = frame.shape[:2]
    if x >= columns or y >= rows or x + width <= 0 or y + height <= 0:
        raise InputError(
            "box outside the frame", found=found, expected=f"a box within {columns}x{rows}"
        )
    if width > MAX_BOX_RATIO * columns or height > MAX_BOX_RATIO * rows:
        raise InputError(
            "box",
            found=found,
            expected=f"at most {MAX_BOX_RATIO} times the frame, {columns}x{rows}",
        )
    return (x, y, width, height)
