"""What training clips are painted with: square backgrounds, and cut-out sprites with outlines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relo_edge.errors import SourceError
from relo_edge.synthetic.sprites import paint_ground, paint_sprite, pick_palette

__all__ = ["OUTLINE", "Atlas", "build_atlas"]

GROUND_SIDE = 256
SPRITE_SIDE = 64
REGIONS = 4
CANDIDATES = 24
OUTLINE = 32
"""Points on a sprite's outline: the box of the moved target is the box of these."""

FRAMES_PER_VIDEO = 60
PAINTED = 0.2
"""Share of backgrounds and sprites painted as in the built-in clips; without videos, all are."""
PAINT_SIDE = 640
FLAT = 18
"""A texture whose grey levels vary less is drawn again, a few times."""
FLAT_TRIES = 4

Image = NDArray[np.uint8]
Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Atlas:
    """Textures on one device; sprite coordinates run from -1 to 1 over the sprite's picture."""

    grounds: Tensor
    """[N,3,side,side] uint8 RGB."""
    sprites: Tensor
    """[M,4,side,side] uint8 RGB and opacity."""
    outlines: Tensor
    """[M,points,2] x, y in sprite coordinates."""
    regions: Tensor
    """[N,REGIONS,4] x, y, w, h from -1 to 1: parts of each background that can be told apart."""

    def to(self, device: torch.device) -> Atlas:
        """The same atlas elsewhere."""
        return replace(
            self,
            grounds=self.grounds.to(device),
            sprites=self.sprites.to(device),
            outlines=self.outlines.to(device),
            regions=self.regions.to(device),
        )


def build_atlas(
    videos: Sequence[Path], seed: int = 0, grounds: int = 2048, sprites: int = 2048
) -> Atlas:
    """Cut an atlas out of videos, or paint it where there are none; one seed, one atlas."""
    rng = np.random.default_rng(seed)
    pictures = [picture for video in videos for picture in _read_textures(video)]
    painted = [_paint_picture(rng) for _ in range(max(8, len(pictures) // 8))]
    sources = [pictures or painted, painted]
    chosen = (sources[int(rng.random() < PAINTED)] for _ in range(grounds + sprites))
    cuts = (pool[rng.integers(len(pool))] for pool in chosen)
    backs = np.stack([_cut_square(rng, next(cuts), GROUND_SIDE, 0.4) for _ in range(grounds)])
    cutouts = [_make_sprite(rng, next(cuts)) for _ in range(sprites)]
    regions = np.stack([_pick_regions(rng, ground) for ground in backs])
    return Atlas(
        torch.from_numpy(backs).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack([one for one, _ in cutouts])).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack([outline for _, outline in cutouts])).float(),
        torch.from_numpy(regions).float(),
    )


def _read_textures(video: Path) -> list[Image]:
    pictures = list(_sample_frames(video))
    if not pictures:
        raise SourceError(f"texture video {str(video)!r}", found="no frames", expected="a video")
    return pictures


def _sample_frames(video: Path) -> Iterator[Image]:
    """Pictures spread over the video, RGB."""
    capture = cv2.VideoCapture(str(video))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    # Reading on is faster than seeking: most videos have few key frames.
    chosen = set(np.linspace(0, count - 1, FRAMES_PER_VIDEO).astype(int).tolist())
    for index in range(count):
        if not capture.grab():
            break
        good, picture = capture.retrieve() if index in chosen else (False, None)
        if good and picture is not None:
            yield _shrink(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
    capture.release()


def _shrink(picture: Image) -> Image:
    """No larger than cuts need: sixty frames of a large video would fill the memory."""
    share = PAINT_SIDE / min(picture.shape[:2])
    if share >= 1:
        return picture
    small = cv2.resize(picture, None, fx=share, fy=share, interpolation=cv2.INTER_AREA)
    return small.astype(np.uint8, copy=False)


def _paint_picture(rng: np.random.Generator) -> Image:
    return np.ascontiguousarray(paint_ground(rng, PAINT_SIDE, PAINT_SIDE)[..., ::-1])


def _cut_square(rng: np.random.Generator, picture: Image, side: int, smallest: float) -> Image:
    """A square region of the picture, from `smallest` of its height to all of it."""
    height, width = picture.shape[:2]
    span = int(min(height, width) * np.exp(rng.uniform(np.log(smallest), 0)))
    top, left = rng.integers(0, height - span + 1), rng.integers(0, width - span + 1)
    region = picture[top : top + span, left : left + span]
    way = cv2.INTER_AREA if span > side else cv2.INTER_LINEAR
    shown = cv2.resize(region, (side, side), interpolation=way)
    return shown[:, ::-1] if rng.random() < 0.5 else shown  # type: ignore[return-value]


def _pick_regions(rng: np.random.Generator, ground: Image) -> Points:
    """Of random boxes, those whose inside differs most from a band around it and within itself."""
    small = cv2.resize(ground, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
    boxes = [_draw_region(rng) for _ in range(CANDIDATES)]
    best = sorted(boxes, key=lambda box: _measure_contrast(small, box), reverse=True)[:REGIONS]
    return np.array(best) / 32 - (1, 1, 0, 0)


def _draw_region(rng: np.random.Generator) -> tuple[int, int, int, int]:
    """A box in pixels of a picture of side 64."""
    side, shape = np.exp(rng.uniform(np.log(6), np.log(22))), np.exp(rng.uniform(-0.5, 0.5))
    width, height = max(4, round(side * shape)), max(4, round(side / shape))
    left, top = rng.integers(4, 60 - width), rng.integers(4, 60 - height)
    return int(left), int(top), width, height


def _measure_contrast(picture: NDArray[np.float64], box: tuple[int, int, int, int]) -> float:
    x, y, width, height = box
    inside = picture[y : y + height, x : x + width]
    around = picture[y - 3 : y + height + 3, x - 3 : x + width + 3]
    edge = np.abs(inside.mean(axis=(0, 1)) - around.mean(axis=(0, 1))).sum()
    return float(2 * edge + inside.std(axis=(0, 1)).mean())


def _make_sprite(rng: np.random.Generator, picture: Image) -> tuple[Image, Points]:
    """A cut-out: painted like the built-in targets, or a natural texture in a random shape."""
    if rng.random() < PAINTED:
        disc = paint_sprite(rng, pick_palette(rng), SPRITE_SIDE // 2).texture
        texture = cv2.resize(disc[..., [2, 1, 0, 3]], (SPRITE_SIDE, SPRITE_SIDE))
        # The disc ends four pixels inside its picture.
        turn = np.linspace(0, 2 * np.pi, OUTLINE, endpoint=False)
        reach = (SPRITE_SIDE // 2) / (SPRITE_SIDE // 2 + 4)
        return texture.astype(np.uint8), reach * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    texture = _cut_square(rng, picture, SPRITE_SIDE, 0.12)
    for _ in range(FLAT_TRIES):
        if texture.std(axis=(0, 1)).mean() > FLAT:
            break
        texture = _cut_square(rng, picture, SPRITE_SIDE, 0.12)
    mask, outline = _draw_shape(rng)
    return np.dstack([texture, mask]), outline


def _draw_shape(rng: np.random.Generator) -> tuple[Image, Points]:
    """A soft-edged mask filling the sprite's picture, and its outline."""
    canvas = np.zeros((4 * SPRITE_SIDE, 4 * SPRITE_SIDE), np.uint8)
    kind = rng.random()
    if kind < 0.25:
        polygons = [_round_box(rng)]
    elif kind < 0.65:
        polygons = [_wobble(rng, rng.uniform(0.02, 0.22))]
    else:
        polygons = _articulate(rng)
    points = _fit_points(polygons)
    middle = 2 * SPRITE_SIDE
    for polygon in points:
        cv2.fillPoly(canvas, [np.rint(middle + middle * polygon).astype(np.int32)], 255)
    blur = rng.uniform(1.5, 8)
    soft = cv2.resize(cv2.GaussianBlur(canvas, (0, 0), blur), (SPRITE_SIDE, SPRITE_SIDE))
    hull = cv2.convexHull(np.concatenate(points).astype(np.float32))[:, 0].astype(np.float64)
    return soft.astype(np.uint8), hull[np.linspace(0, len(hull) - 1, OUTLINE).astype(int)]


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
