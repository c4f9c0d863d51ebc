"""Known mistakes with what goes in: pixels, crops and the template's box."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.mistakes import Mistake, PixelChange
from relo_edge.host.opencv import cv2
from relo_edge.spec import PIXEL_MEAN, PIXEL_STD

__all__ = ["list_input_mistakes"]

Pixels = NDArray[np.float64]

ZOOMS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.1, 1.2, 1.25, 1.3, 1.4, 1.5, 1.75, 2.0)
"""Crop factors that are tried, as multiples of the right one."""


def list_input_mistakes() -> Iterator[Mistake]:
    """Every mistake with each of the two crops, then those with the template's box."""
    for part, what, change in _list_pixel_mistakes():
        yield Mistake(part, what, change, change)
        yield Mistake(part, f"{what} of the search crop", search=change)
        yield Mistake(part, f"{what} of the template", template=change)
    for what, move in {
        "x and y are the centre, not the corner": lambda b: np.append(b[:2] + b[2:] / 2, b[2:]),
        "x, y, right, bottom in place of x, y, w, h": lambda b: np.append(b[:2], b[:2] + b[2:]),
        "in pixels, not as fractions of the crop": lambda b: b * 64,
        "in pixels of 128, not as fractions of the crop": lambda b: b * 128,
        "width and height are swapped": lambda b: b[[0, 1, 3, 2]],
        "all zeros: no token is marked as the target": lambda b: b * 0,
        "the whole crop is marked as the target": lambda b: b * 0 + (0, 0, 1, 1),
    }.items():
        yield Mistake("template box", what, template_box=move)


def _list_pixel_mistakes() -> Iterator[tuple[str, str, PixelChange]]:
    """Part, what is wrong, and the pixels from which the reference makes the same of it."""
    yield "channels", "BGR for RGB: red and blue are swapped", lambda p: p[..., ::-1]
    yield from _list_value_mistakes()
    for what, wrong in _name_normalisations().items():
        yield "normalisation", what, _undo_normalisation(wrong)
    for what, move in {
        "shifted by one pixel to the right": lambda p: np.roll(p, 1, axis=1),
        "shifted by one pixel to the left": lambda p: np.roll(p, -1, axis=1),
        "shifted down by one pixel": lambda p: np.roll(p, 1, axis=0),
        "shifted up by one pixel": lambda p: np.roll(p, -1, axis=0),
        "shifted by one pixel right and down": lambda p: np.roll(p, (1, 1), (0, 1)),
        "mirrored": lambda p: p[:, ::-1],
        "upside down": lambda p: p[::-1],
        "rows and columns are swapped": lambda p: p.transpose(1, 0, 2),
    }.items():
        yield "geometry", what, move
    for zoom in ZOOMS:
        yield "crop factor", f"{zoom:g} times the right one", _zoom(zoom)
    yield "interpolation", "resized twice, through half the size", _resize_twice(cv2.INTER_LINEAR)
    yield (
        "interpolation",
        "resized through half the size by nearest neighbour",
        _resize_twice(cv2.INTER_NEAREST),
    )
    for what, colour in {
        "ImageNet's mean in place of black": 255 * np.array(PIXEL_MEAN),
        "grey in place of black": np.full(3, 128.0),
        "white in place of black": np.full(3, 255.0),
    }.items():
        yield "padding", what, _pad_with(colour)
    yield "padding", "the picture's edge repeated in place of black", _repeat_edge


def _list_value_mistakes() -> Iterator[tuple[str, str, PixelChange]]:
    for what, change in {
        "divided by 256 in place of 255": lambda p: p * 255 / 256,
        "video range: 0 to 255 squeezed into 16 to 235": lambda p: (p * 219 / 255 + 16).round(),
        "video range: 16 to 235 stretched to 0 to 255": lambda p: (
            ((p - 16) * 255 / 219).clip(0, 255).round()
        ),
        "read as signed bytes: 128 and more become negative": lambda p: np.where(
            p < 128, p, p - 256
        ),
        "clamped at 127": lambda p: p.clip(0, 127),
        "one grey level too many": lambda p: p + 1,
        "128 is subtracted once more": lambda p: p - 128,
        "grey in place of colour": lambda p: np.repeat(
            p @ np.array([[0.299], [0.587], [0.114]]), 3, axis=-1
        ),
    }.items():
        yield "pixels", what, change


def _name_normalisations() -> dict[str, PixelChange]:
    mean, std = np.array(PIXEL_MEAN), np.array(PIXEL_STD)
    return {
        "left out: pixels are only divided by 255": lambda p: p / 255,
        "left out: pixels are taken from 0 to 255": lambda p: p,
        "mean and deviation 0.5 in place of ImageNet's": lambda p: p / 127.5 - 1,
        "ImageNet's mean and deviation in BGR order": lambda p: (p / 255 - mean[::-1]) / std[::-1],
        "the mean is subtracted, the deviation not divided by": lambda p: p / 255 - mean,
        "divided by the deviation, the mean not subtracted": lambda p: p / 255 / std,
        "mean and deviation applied to pixels from 0 to 255": lambda p: (p - mean) / std,
        "pixels are divided by 255 twice": lambda p: (p / 255**2 - mean) / std,
        "mean and deviation applied twice": lambda p: ((p / 255 - mean) / std - mean) / std,
    }


def _undo_normalisation(wrong: PixelChange) -> PixelChange:
    """Pixels that the right normalisation makes of what the wrong one makes of pixels."""
    mean, std = np.array(PIXEL_MEAN), np.array(PIXEL_STD)
    return lambda pixels: 255 * (wrong(pixels) * std + mean)


def _zoom(factor: float) -> PixelChange:
    """A crop `factor` times as wide, from the pixels that the right one has; black beside it."""

    def change(pixels: Pixels) -> Pixels:
        side = pixels.shape[0]
        scale = 1 / factor
        shift = (side / 2 - 0.5) * (1 - scale)
        matrix = np.array([[scale, 0, shift], [0, scale, shift]])
        shown = cv2.warpAffine(pixels.astype(np.float32), matrix, (side, side))
        return shown.astype(np.float64)

    return change


def _resize_twice(method: int) -> PixelChange:
    def change(pixels: Pixels) -> Pixels:
        side = pixels.shape[0]
        small = cv2.resize(pixels.astype(np.float32), (side // 2, side // 2), interpolation=method)
        return cv2.resize(small, (side, side), interpolation=method).astype(np.float64).round()

    return change


def _find_picture(pixels: Pixels) -> tuple[slice, slice]:
    """The rows and columns that show picture; black ones at the edges are padding."""
    lit = (pixels > 0).max(axis=2)
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if not rows.size:
        return slice(0, pixels.shape[0]), slice(0, pixels.shape[1])
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _pad_with(colour: Pixels) -> PixelChange:
    def change(pixels: Pixels) -> Pixels:
        rows, columns = _find_picture(pixels)
        padded = np.broadcast_to(colour, pixels.shape).copy()
        padded[rows, columns] = pixels[rows, columns]
        return padded

    return change


def _repeat_edge(pixels: Pixels) -> Pixels:
    rows, columns = _find_picture(pixels)
    before_after = [
        (part.start, side - part.stop)
        for part, side in zip((rows, columns), pixels.shape, strict=False)
    ]
    return np.pad(pixels[rows, columns], (*before_after, (0, 0)), mode="edge")
