"""The texture atlas of synthetic clips: square backgrounds, and sprites with outlines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relo_edge.errors import SourceError
from relo_edge.synthetic.sprites import paint_ground, paint_sprite, pick_palette
from relo_edge.training.cutouts import Photo, cut_object
from relo_edge.training.outlines import OUTLINE, Points
from relo_edge.training.shapes import draw_shape

__all__ = ["Atlas", "build_atlas"]

BACKGROUND_SIDE = 256
SPRITE_SIDE = 96
REGIONS = 4
CANDIDATES = 24
PHOTO_SHARE = 0.6
"""Share of backgrounds that are annotated pictures, and of sprites that are cut out of them."""
SMALLEST_REGION = 0.09
LARGEST_REGION = 0.5
"""Limits of a background object's size, as shares of the background's side."""
PEERS = 8
"""Candidates for each sprite's look-alike."""
NO_KIND = -1

FRAMES_PER_VIDEO = 60
PAINTED = 0.2
"""Share of backgrounds and sprites painted as in the built-in clips; without videos, all are."""
PAINT_SIDE = 640
FLAT = 18
"""Grey-level deviation under which a texture is redrawn, a few times."""
FLAT_TRIES = 4

Image = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Atlas:
    """Textures on one device; sprite coordinates run from -1 to 1 over the sprite's picture."""

    backgrounds: Tensor
    """[N,3,side,side] uint8 RGB."""
    sprites: Tensor
    """[M,4,side,side] uint8 RGB and opacity."""
    outlines: Tensor
    """[M,points,2] x, y in sprite coordinates."""
    regions: Tensor
    """[N,REGIONS,4] x, y, w, h from -1 to 1: parts of each background that can be told apart."""
    region_outlines: Tensor
    """[N,REGIONS,points,2] from -1 to 1 over the region."""
    peers: Tensor
    """[M,PEERS] for each sprite, others of its kind, or any where it has none."""

    def to(self, device: torch.device) -> Atlas:
        """The same atlas elsewhere."""
        return replace(
            self,
            backgrounds=self.backgrounds.to(device),
            sprites=self.sprites.to(device),
            outlines=self.outlines.to(device),
            regions=self.regions.to(device),
            region_outlines=self.region_outlines.to(device),
            peers=self.peers.to(device),
        )


def build_atlas(
    videos: Sequence[Path],
    seed: int = 0,
    backgrounds: int = 2048,
    sprites: int = 2048,
    photos: Sequence[Photo] = (),
) -> Atlas:
    """An atlas of videos and pictures, or painted without any; one seed, one atlas."""
    rng = np.random.default_rng(seed)
    pictures = [picture for video in videos for picture in _read_textures(video)]
    painted = [_paint_picture(rng) for _ in range(max(8, len(pictures) // 8))]
    pools = [pictures or [photo.image for photo in photos] or painted, painted]
    share = PHOTO_SHARE if photos else 0.0
    backs = [_make_background(rng, pools, photos, share) for _ in range(backgrounds)]
    objects = [(photo, index) for photo in photos for index in range(len(photo.objects))]
    cuts = [_make_any_sprite(rng, pools, objects, share) for _ in range(sprites)]
    return Atlas(
        _stack_images([back.image for back in backs]),
        _stack_images([cut.image for cut in cuts]),
        torch.from_numpy(np.stack([cut.outline for cut in cuts])).float(),
        torch.from_numpy(np.stack([back.regions for back in backs])).float(),
        torch.from_numpy(np.stack([back.outlines for back in backs])).float(),
        torch.from_numpy(_find_peers(rng, [cut.kind for cut in cuts])),
    )


class _Background(NamedTuple):
    image: Image
    regions: Points
    outlines: Points


class _Sprite(NamedTuple):
    image: Image
    outline: Points
    kind: int


def _stack_images(images: Sequence[Image]) -> Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()


def _make_background(
    rng: np.random.Generator,
    pools: Sequence[Sequence[Image]],
    photos: Sequence[Photo],
    share: float,
) -> _Background:
    if rng.random() < share:
        return _cut_photo(rng, photos[int(rng.integers(len(photos)))])
    pool = pools[int(rng.random() < PAINTED)]
    image = _cut_square(rng, pool[int(rng.integers(len(pool)))], BACKGROUND_SIDE, 0.4)
    return _Background(image, *_pick_regions(rng, image))


def _make_any_sprite(
    rng: np.random.Generator,
    pools: Sequence[Sequence[Image]],
    objects: Sequence[tuple[Photo, int]],
    share: float,
) -> _Sprite:
    if rng.random() < share:
        photo, index = objects[int(rng.integers(len(objects)))]
        cut, side = cut_object(photo, index, SPRITE_SIDE), rng.choice([-1, 1])
        texture = cut.texture[:, ::side]
        return _Sprite(texture, cut.outline * (side, 1), photo.objects[index].category)
    pool = pools[int(rng.random() < PAINTED)]
    return _Sprite(*_make_sprite(rng, pool[int(rng.integers(len(pool)))]), NO_KIND)


def _cut_photo(rng: np.random.Generator, photo: Photo) -> _Background:
    """A square of a picture around one of its objects, with the objects that lie in it."""
    height, width = photo.image.shape[:2]
    if not photo.objects:
        image = _cut_square(rng, photo.image, BACKGROUND_SIDE, 0.4)
        return _Background(image, *_pick_regions(rng, image))
    x, y, *sides = photo.objects[int(rng.integers(len(photo.objects)))].box
    wanted = np.exp(rng.uniform(np.log(SMALLEST_REGION * 1.3), np.log(LARGEST_REGION)))
    span = int(np.clip(np.sqrt(sides[0] * sides[1]) / wanted, 48, min(height, width)))
    left, top = (
        int(np.clip(start + side / 2 - span * rng.uniform(0.3, 0.7), 0, limit - span))
        for start, side, limit in ((x, sides[0], width), (y, sides[1], height))
    )
    region = photo.image[top : top + span, left : left + span]
    way = cv2.INTER_AREA if span > BACKGROUND_SIDE else cv2.INTER_LINEAR
    image = cv2.resize(region, (BACKGROUND_SIDE, BACKGROUND_SIDE), interpolation=way).astype(
        np.uint8
    )
    found = [_place_object(photo, index, left, top, span) for index in range(len(photo.objects))]
    whole = [one for one in found if one is not None]
    regions, outlines = _pick_regions(rng, image)
    if whole:
        for row in range(REGIONS):
            regions[row], outlines[row] = whole[rng.integers(len(whole))]
    if rng.random() < 0.5:
        image, regions, outlines = _mirror(image, regions, outlines)
    return _Background(image, regions, outlines)


def _place_object(
    photo: Photo, index: int, left: int, top: int, span: int
) -> tuple[Points, Points] | None:
    """Where an object lies in a square of its picture, -1 to 1; None where it does not fit."""
    x, y, width, height = photo.objects[index].box
    inside = left <= x and top <= y and x + width <= left + span and y + height <= top + span
    share = np.sqrt(width * height) / span
    if not inside or not SMALLEST_REGION <= share <= LARGEST_REGION * 1.2:
        return None
    place = np.array([x - left, y - top, width, height]) * 2 / span - (1, 1, 0, 0)
    # On the sprite, the object's longer side takes the same share as any other's.
    outline = cut_object(photo, index, SPRITE_SIDE).outline
    return place, outline / np.abs(outline).max(axis=0)


def _mirror(image: Image, regions: Points, outlines: Points) -> tuple[Image, Points, Points]:
    turned = regions.copy()
    turned[:, 0] = -regions[:, 0] - regions[:, 2]
    return np.ascontiguousarray(image[:, ::-1]), turned, outlines * (-1, 1)


def _find_peers(rng: np.random.Generator, kinds: Sequence[int]) -> NDArray[np.int64]:
    """For each sprite, sprites of its category; plain textures get any."""
    told = np.array(kinds)
    everything = np.arange(len(told))
    peers = rng.integers(0, len(told), (len(told), PEERS))
    for kind in set(kinds) - {NO_KIND}:
        same = everything[told == kind]
        if len(same) > 1:
            peers[same] = same[rng.integers(0, len(same), (len(same), PEERS))]
    return peers


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
    """Shrink to the size that cuts need: full frames would fill the memory."""
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


def _pick_regions(rng: np.random.Generator, background: Image) -> tuple[Points, Points]:
    """Of random boxes, those with the most contrast inside and to their surroundings."""
    small = cv2.resize(background, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float64)
    boxes = [_draw_region(rng) for _ in range(CANDIDATES)]
    best = sorted(boxes, key=lambda box: _measure_contrast(small, box), reverse=True)[:REGIONS]
    corners = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    outlines = np.tile(corners, (REGIONS, OUTLINE // 4, 1))
    return np.array(best) / 32 - (1, 1, 0, 0), outlines


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
    mask, outline = draw_shape(rng, SPRITE_SIDE)
    return np.dstack([texture, mask]), outline
