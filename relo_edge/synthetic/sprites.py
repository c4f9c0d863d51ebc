"""What a synthetic clip is painted with: a ground and textured ellipses, all from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import Floats
from relo_edge.host.opencv import cv2

__all__ = [
    "Sprite",
    "bound_ellipses",
    "draw_sprite",
    "paint_ground",
    "paint_sprite",
    "pick_palette",
]

Image = NDArray[np.uint8]

RIM = 4
"""Pixels of texture beyond the disc, so that its edge blends with nothing black."""


@dataclass(frozen=True, eq=False)
class Sprite:
    """A textured disc, to be drawn as an ellipse anywhere."""

    texture: Image
    """[side, side, 4]: blue, green, red, and the disc as opacity."""
    radius: int


def bound_ellipses(poses: Floats) -> Floats:
    """The boxes [n,4] that just hold ellipses [n,5]: centre, half axes, angle in radians."""
    x, y, along, across, angle = poses.T
    half_width = np.hypot(along * np.cos(angle), across * np.sin(angle))
    half_height = np.hypot(along * np.sin(angle), across * np.cos(angle))
    return np.stack([x - half_width, y - half_height, 2 * half_width, 2 * half_height], axis=1)


def pick_palette(rng: np.random.Generator) -> Image:
    """Five strong colours [5,3] that stand out from the ground's dull ones."""
    hue = rng.integers(0, 180)
    hues = (hue + np.array([0, 8, 172, 90, 75])) % 180
    saturation = rng.integers(150, 250, 5)
    value = np.array([210, 120, 240, 235, 60])
    hsv = np.stack([hues, saturation, value], axis=1).astype(np.uint8)
    return _as_image(cv2.cvtColor(hsv[None], cv2.COLOR_HSV2BGR)[0])


def paint_sprite(rng: np.random.Generator, palette: Image, radius: int) -> Sprite:
    """A disc with patches of the palette, shaded towards its edge."""
    side = 2 * (radius + RIM)
    texture = np.empty((side, side, 3), np.uint8)
    texture[:] = palette[0]
    for colour in palette[rng.integers(1, len(palette), 14)]:
        centre = rng.integers(0, side, 2)
        axes = rng.integers(side // 16 + 1, side // 5 + 2, 2)
        turn = int(rng.integers(0, 180))
        _fill_ellipse(texture, centre, axes, turn, colour)
    distance = _measure_distance(side) / radius
    shade = np.clip(1.1 - 0.55 * distance**3, 0.2, 1.1)
    lit = np.clip(texture * shade[..., None], 0, 255)
    opacity = np.clip((radius + 0.5 - distance * radius), 0, 1) * 255
    return Sprite(np.dstack([lit, opacity]).round().astype(np.uint8), radius)


def draw_sprite(canvas: Image, sprite: Sprite, pose: Floats) -> None:
    """Blend the disc into the canvas as the ellipse of a pose [5], however much is outside."""
    x, y, width, height = bound_ellipses(pose[None])[0]
    rows, columns = canvas.shape[:2]
    left, right = (int(np.clip(edge, 0, columns)) for edge in (x - 2, x + width + 3))
    top, bottom = (int(np.clip(edge, 0, rows)) for edge in (y - 2, y + height + 3))
    if left >= right or top >= bottom:
        return
    matrix = _place_sprite(sprite, pose, left, top)
    drawn = cv2.warpAffine(sprite.texture, matrix, (right - left, bottom - top))
    opacity = drawn[..., 3:].astype(np.float32) / 255
    under = canvas[top:bottom, left:right]
    under[:] = np.rint(under + (drawn[..., :3] - under.astype(np.float32)) * opacity)


def paint_ground(rng: np.random.Generator, width: int, height: int) -> Image:
    """Dull rolling colours with stones and leaves lying about."""
    light, dark = rng.uniform(90, 150, 3), rng.uniform(30, 80, 3)
    relief = _paint_relief(rng, width, height)[..., None]
    ground = _as_image(np.clip(dark + (light - dark) * relief, 0, 255))
    size = min(width, height)
    for _ in range(70):
        colour = np.clip(rng.uniform(40, 170) + rng.uniform(-18, 18, 3), 0, 255)
        centre = rng.integers(0, (width, height))
        axes = rng.integers(size // 60 + 2, size // 14 + 3, 2)
        turn = int(rng.integers(0, 180))
        _fill_ellipse(ground, centre + 2, axes, turn, colour * 0.45)
        _fill_ellipse(ground, centre, axes, turn, colour)
    return ground


def _place_sprite(sprite: Sprite, pose: Floats, left: int, top: int) -> Floats:
    """The affine map from the texture to the canvas part; pixel i spans i to i+1 in a pose."""
    x, y, along, across, angle = pose
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn * (np.array([along, across]) / sprite.radius)
    middle = (sprite.texture.shape[0] - 1) / 2
    shift = np.array([x - left, y - top]) - 0.5 - linear @ np.array([middle, middle])
    return np.column_stack([linear, shift])


def _paint_relief(rng: np.random.Generator, width: int, height: int) -> NDArray[np.float32]:
    """Smooth noise at several scales, from 0 to about 1."""
    relief = np.zeros((height, width), np.float32)
    for cells, weight in ((3, 0.4), (9, 0.25), (27, 0.2), (90, 0.15)):
        shape = (cells, max(2, cells * width // height))
        noise = rng.random(shape, dtype=np.float32)
        relief += weight * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return relief


def _fill_ellipse(
    image: Image,
    centre: NDArray[np.int64],
    axes: NDArray[np.int64],
    turn: int,
    colour: NDArray[np.generic],
) -> None:
    blue, green, red = (float(channel) for channel in colour.tolist())
    middle = (int(centre[0]), int(centre[1]))
    half = (int(axes[0]), int(axes[1]))
    cv2.ellipse(image, middle, half, turn, 0, 360, (blue, green, red), cv2.FILLED, cv2.LINE_AA)


def _measure_distance(side: int) -> Floats:
    """Each pixel's distance from the middle of a square."""
    steps = np.arange(side) - (side - 1) / 2
    distance: Floats = np.hypot(steps[:, None], steps[None])
    return distance


def _as_image(values: NDArray[np.generic]) -> Image:
    return np.ascontiguousarray(values).astype(np.uint8)
