"""Seeded clips with exact ground truth, for when there is no video at hand."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError
from relo_edge.geometry import Floats
from relo_edge.host.opencv import cv2
from relo_edge.synthetic.sprites import (
    Sprite,
    bound_ellipses,
    draw_sprite,
    paint_ground,
    paint_sprite,
    pick_palette,
)

__all__ = ["RATE", "SyntheticClip", "make_clip"]

RATE = 30.0
"""Frames per second of the motion: a longer clip goes on, it does not slow down."""

SMALLEST = 64
"""The shortest side at which the target is more than a few pixels."""

PASSAGE = 110
"""Frames from one passing of the look-alike to the next."""

GROUND = 1.5
"""How much wider than the picture the ground is."""

GRAIN = 4.0
"""Standard deviation of the sensor's noise, in grey levels."""

PLAY = 64
"""Pixels by which the one noise picture is shifted about, to look new in every frame."""

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class _Paint:
    """What all frames of a clip are put together from."""

    target: Sprite
    lookalike: Sprite
    ground: Image
    grain: Image
    shifts: NDArray[np.int64]
    """[n,2] where each frame's noise is cut from the grain."""


@dataclass(frozen=True, eq=False)
class SyntheticClip:
    """A clip that is drawn as it is read; the same seed gives the same clip."""

    seed: int
    size: tuple[int, int]
    """Width, height."""
    boxes: Floats
    """[n,4] x, y, w, h: the part of the target that is in the picture."""
    target: Floats
    """[n,5] the target's ellipse: centre, half axes, angle."""
    lookalike: Floats
    """[n,5] the same of another that now and then passes below it."""
    camera: Floats
    """[n,3] the camera's shift right and down, from -1 to 1, and its roll."""
    light: Floats
    """[n] brightness."""

    def __len__(self) -> int:
        return len(self.boxes)

    def frames(self, order: Iterable[int] | None = None) -> Generator[Image, None, None]:
        """The pictures, BGR, each a new array; in another order than the clip's if one is given."""
        paint, (width, height) = self._paint, self.size
        for index in range(len(self)) if order is None else order:
            frame = self._show_ground(paint.ground, index)
            draw_sprite(frame, paint.lookalike, self.lookalike[index])
            draw_sprite(frame, paint.target, self.target[index])
            left, top = paint.shifts[index]
            noise = paint.grain[top : top + height, left : left + width]
            yield cv2.addWeighted(frame, self.light[index], noise, 1, -128).astype(
                np.uint8, copy=False
            )

    @cached_property
    def _paint(self) -> _Paint:
        """Painted when first read, and kept for the next time."""
        rng = np.random.default_rng((self.seed, 1))
        width, height = self.size
        palette, radius = pick_palette(rng), max(8, round(float(self.target[:, 2].mean())))
        target, lookalike = (paint_sprite(rng, palette, radius) for _ in range(2))
        ground = paint_ground(rng, round(width * GROUND), round(height * GROUND))
        grain = _draw_grain(rng, width, height)
        return _Paint(target, lookalike, ground, grain, rng.integers(0, PLAY, (len(self), 2)))

    def _show_ground(self, ground: Image, index: int) -> Image:
        """The ground as the camera sees it."""
        right, down, roll = self.camera[index]
        width, height = self.size
        margin = (GROUND - 1) / 2
        middle = (
            width * (0.5 + margin + 0.6 * margin * right),
            height * (0.5 + margin + 0.6 * margin * down),
        )
        matrix = cv2.getRotationMatrix2D(middle, roll, 1.0)
        matrix[:, 2] = matrix[:, 2] + (width / 2 - middle[0], height / 2 - middle[1])
        seen = cv2.warpAffine(ground, matrix, self.size, borderMode=cv2.BORDER_REFLECT_101)
        return seen.astype(np.uint8, copy=False)


def make_clip(seed: int, frames: int = 60, size: tuple[int, int] = (640, 360)) -> SyntheticClip:
    """Plan a clip: everything but the pictures, which are drawn when they are read."""
    if frames < 1 or min(size) < SMALLEST or seed < 0:
        raise InputError(
            "synthetic clip",
            found=f"seed {seed}, {frames} frames of {size[0]}x{size[1]}",
            expected=f"a seed from 0, 1 frame or more, sides of at least {SMALLEST}",
        )
    rng = np.random.default_rng((seed, 0))
    time = np.arange(frames) / RATE
    target = _move_target(rng, time, size)
    camera = np.stack([_wander(rng, time), _wander(rng, time), 4 * _wander(rng, time)], axis=1)
    return SyntheticClip(
        seed=seed,
        size=size,
        boxes=_clip_boxes(bound_ellipses(target), size),
        target=target,
        lookalike=_move_lookalike(rng, target, size),
        camera=camera,
        light=1 + 0.2 * _wander(rng, time),
    )


def _wander(rng: np.random.Generator, time: Floats) -> Floats:
    """A smooth path within -1 to 1 that starts within half of that."""
    path = np.full_like(time, rng.uniform(-0.5, 0.5))
    for _ in range(2):
        strength, speed, phase = rng.uniform(0.3, 0.6), rng.uniform(0.5, 1.4), rng.uniform(0, 6.3)
        path += strength * (np.sin(speed * time + phase) - np.sin(phase))
    return np.tanh(path)


def _move_target(rng: np.random.Generator, time: Floats, size: tuple[int, int]) -> Floats:
    """The ellipse over time; its centre never leaves the picture."""
    x, y = (side * (0.5 + 0.46 * _wander(rng, time)) for side in size)
    half = min(size) * rng.uniform(0.07, 0.13) * np.exp(0.35 * _wander(rng, time))
    shape = np.sqrt(rng.uniform(1.2, 1.8)) * np.exp(0.15 * _wander(rng, time))
    turn = rng.choice([-1, 1]) * rng.uniform(0.1, 0.4)
    angle = rng.uniform(0, np.pi) + turn * time + 0.4 * _wander(rng, time)
    return np.stack([x, y, half * shape, half / shape, angle], axis=1)


def _move_lookalike(rng: np.random.Generator, target: Floats, size: tuple[int, int]) -> Floats:
    """The look-alike crosses the picture from side to side, then is away for as long."""
    width, height = size
    phase = (np.arange(len(target)) + rng.integers(PASSAGE)) % PASSAGE / PASSAGE
    across = (2 * phase - 0.5) if rng.random() < 0.5 else (1.5 - 2 * phase)
    lane = rng.uniform(0.2, 0.8) + 0.1 * np.sin(6 * phase)
    pose = target.copy()
    pose[:, 0], pose[:, 1] = width * across, height * lane
    pose[:, 2:4] = target[0, 2:4] * rng.uniform(0.85, 1.15)
    pose[:, 4] += rng.uniform(0, np.pi)
    return pose


def _clip_boxes(boxes: Floats, size: tuple[int, int]) -> Floats:
    low = np.clip(boxes[:, :2], 0, size)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, size)
    return np.hstack([low, high - low])


def _draw_grain(rng: np.random.Generator, width: int, height: int) -> Image:
    """Noise around 128, larger than the picture by its play."""
    shape = (height + PLAY, width + PLAY, 3)
    noise = 128 + GRAIN * rng.standard_normal(shape, dtype=np.float32)
    return noise.round().clip(0, 255).astype(np.uint8)
