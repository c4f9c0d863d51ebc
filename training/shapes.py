"""Shapes that textures are cut into: boxes, blobs, bodies with limbs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from relo_edge.training.outlines import Points, support_points

__all__ = ["draw_shape"]

Image = NDArray[np.uint8]


def draw_shape(rng: np.random.Generator, side: int) -> tuple[Image, Points]:
    """A soft-edged mask filling the sprite's picture, and its outline."""
    canvas = np.zeros((4 * side, 4 * side), np.uint8)
    kind = rng.random()
    if kind < 0.25:
        polygons = [_round_box(rng)]
    elif kind < 0.65:
        polygons = [_wobble(rng, rng.uniform(0.02, 0.22))]
    else:
        polygons = _articulate(rng)
    points = _fit_points(polygons)
    middle = 2 * side
    for polygon in points:
        cv2.fillPoly(canvas, [np.rint(middle + middle * polygon).astype(np.int32)], 255)
    blur = rng.uniform(1.5, 8)
    soft = cv2.resize(cv2.GaussianBlur(canvas, (0, 0), blur), (side, side))
    return soft.astype(np.uint8), support_points(np.concatenate(points))


def _round_box(rng: np.random.Generator) -> Points:
    """A superellipse: anything from an ellipse to a rectangle."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    power = rng.uniform(0.15, 1.0)
    wave = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    shape: Points = np.sign(wave) * np.abs(wave) ** power * (1, rng.uniform(0.5, 1))
    return shape


def _wobble(rng: np.random.Generator, strength: float) -> Points:
    """A closed curve whose radius wanders."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    radius = np.ones_like(turn)
    for wave in range(2, 7):
        radius += strength * rng.normal() / np.sqrt(wave) * np.cos(wave * turn + rng.uniform(0, 7))
    radius = np.maximum(radius, 0.2)
    curve: Points = radius[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return curve


def _articulate(rng: np.random.Generator) -> list[Points]:
    """A body with a few limbs or a head."""
    body = _wobble(rng, 0.08) * (1, rng.uniform(0.4, 1))
    parts = [body]
    for _ in range(rng.integers(1, 5)):
        limb = _wobble(rng, 0.05) * (rng.uniform(0.3, 0.7), rng.uniform(0.12, 0.4))
        angle = rng.uniform(0, 2 * np.pi)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        parts.append(limb @ turn + 0.9 * np.array([np.cos(angle), np.sin(angle)]))
    return parts


def _fit_points(polygons: Sequence[Points]) -> list[Points]:
    """The polygons centred and scaled, one scale for both axes, to nearly fill -1 to 1."""
    everything = np.concatenate(polygons)
    low, high = everything.min(axis=0), everything.max(axis=0)
    scale = 0.92 * 2 / (high - low).max()
    return [(polygon - (low + high) / 2) * scale for polygon in polygons]
