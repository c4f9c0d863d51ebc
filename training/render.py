"""The renderer: scenes to crops, on the atlas's device."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from relo_edge.spec import TrackerProtocol, Variant
from relo_edge.training.scenes import Scenes, bend, draw_scenes
from relo_edge.training.textures import Atlas

__all__ = [
    "LEAST_SEEN",
    "ClipBatch",
    "Jitter",
    "SceneViews",
    "Views",
    "place_views",
    "render_clips",
]
__all__ += ["template_of"]

SPRITE_LAYERS = 3
LEAST_SEEN = 0.3
"""A target of which less is in the picture teaches nothing in that frame."""


@dataclass(frozen=True)
class Jitter:
    """Random displacement and scale of search crops, in place of the tracker's own errors."""

    centre: float = 3.5
    """Width of the uniform shift, in target sizes."""
    scale: float = 0.5
    """Standard deviation of the logarithm of the side."""
    calm: float = 0.0
    """Share of clips with a third of it."""


@dataclass(frozen=True, eq=False)
class ClipBatch:
    """What one step of training sees: B clips of F search frames."""

    templates: Tensor
    """[B,side,side,3] uint8 RGB."""
    template_boxes: Tensor
    """[B,4] x, y, w, h as the tracker normalises them."""
    searches: Tensor
    """[B,F,side,side,3] uint8 RGB."""
    boxes: Tensor
    """[B,F,4] cx, cy, w, h of the target in each search crop, 0 to 1."""
    seen: Tensor
    """[B,F] whether the target is in the crop at all."""

    def to(self, device: torch.device) -> ClipBatch:
        """The same batch elsewhere."""
        moved = {name: value.to(device, non_blocking=True) for name, value in vars(self).items()}
        return ClipBatch(**moved)


@dataclass(frozen=True, eq=False)
class Views:
    """Where the crops lie in their frames."""

    middles: Tensor
    """[B,F+1,2]"""
    sides: Tensor
    """[B,F+1]"""


def render_clips(
    atlas: Atlas,
    variant: Variant,
    generator: torch.Generator,
    clips: int,
    frames: int,
    jitter: Jitter,
) -> ClipBatch:
    """Draw and render a batch; the generator's state decides everything."""
    scenes = draw_scenes(atlas, generator, clips, frames)
    centre, size = scenes.centred_boxes.split(2, dim=2)
    views = place_views(centre, size, variant.protocol(), jitter, generator)
    template, searches = slice(0, 1), slice(1, None)
    textures = gather_textures(atlas, scenes)
    pictures = [
        _degrade(*_render_view(textures, scenes, views, times, pixels), generator)
        for times, pixels in (
            (template, variant.template_size),
            (searches, variant.search_size),
        )
    ]
    in_crop = ((centre - views.middles) / views.sides[..., None] + 0.5)[:, searches]
    shown = size / views.sides[..., None]
    return ClipBatch(
        templates=pictures[0][:, 0],
        template_boxes=_box_template(shown[:, 0], variant),
        searches=pictures[1],
        boxes=torch.cat([in_crop, shown[:, searches]], dim=2),
        seen=scenes.judge_visible(LEAST_SEEN)[:, searches]
        & ((in_crop > 0) & (in_crop < 1)).all(dim=2),
    )


def place_views(
    centre: Tensor,
    size: Tensor,
    protocol: TrackerProtocol,
    jitter: Jitter,
    generator: torch.Generator,
) -> Views:
    """The template's crop on its target, the search crops off theirs by a jitter."""
    shape = size.shape[:2]
    calm = torch.rand(shape[0], 1, generator=generator, device=size.device) < jitter.calm
    strength = torch.where(calm, 1 / 3, 1.0).expand(shape).clone()
    strength[:, 0] = 0
    shift = torch.rand(*shape, 2, generator=generator, device=size.device) - 0.5
    grow = torch.randn(shape, generator=generator, device=size.device) * jitter.scale
    guessed = size.prod(dim=2).sqrt() * (grow * strength).exp()
    factor = torch.full_like(guessed, protocol.search_factor)
    factor[:, 0] = protocol.template_factor
    shift = shift * (jitter.centre * strength * guessed)[..., None]
    return Views(centre + shift, guessed * factor)


@dataclass(frozen=True, eq=False)
class SceneViews:
    """Synthetic clips whose crops are rendered on demand."""

    atlas: Atlas
    scenes: Scenes
    seed: int
    """Seed of blur, contrast and noise, so that a frame looks the same in every crop."""

    @cached_property
    def textures(self) -> Textures:
        """What every crop of these clips is sampled from."""
        return gather_textures(self.atlas, self.scenes)

    def crop(self, frame: int, middles: Tensor, sides: Tensor, size: int) -> Tensor:
        """Around middles [B,2], sides [B] wide: uint8 RGB [B,size,size,3]."""
        views = Views(middles[:, None], sides[:, None])
        generator = torch.Generator(middles.device).manual_seed(self.seed + frame)
        drawn = _render_view(self.textures, self.scenes.at(frame), views, slice(0, 1), size)
        return _degrade(*drawn, generator)[:, 0]

    def to(self, device: torch.device) -> SceneViews:
        """The same elsewhere."""
        return SceneViews(self.atlas.to(device), self.scenes.to(device), self.seed)


def template_of(views: SceneViews, variant: Variant) -> tuple[Tensor, Tensor]:
    """The templates of synthetic clips and the targets' boxes in them."""
    centre, size = views.scenes.at(0).centred_boxes[:, 0].split(2, dim=1)
    sides = size.prod(dim=1).sqrt() * variant.protocol().template_factor
    picture = views.crop(0, centre, sides, variant.template_size)
    return picture, _box_template(size / sides[:, None], variant)


def _box_template(shown: Tensor, variant: Variant) -> Tensor:
    """Boxes in templates are normalised by the distance between first and last pixel."""
    size = shown * variant.template_size / (variant.template_size - 1)
    return torch.cat([0.5 - size / 2, size], dim=1)


class Textures(NamedTuple):
    """The pictures of one batch."""

    backgrounds: Tensor
    """[B,3,side,side]"""
    sprites: Tensor
    """[B,layers,4,side,side]"""


def gather_textures(atlas: Atlas, scenes: Scenes) -> Textures:
    """Look the batch's pictures up in the atlas."""
    backgrounds = atlas.backgrounds[scenes.background].float()
    return Textures(backgrounds, atlas.sprites[scenes.sprites].float())


def _render_view(
    textures: Textures, scenes: Scenes, views: Views, times: slice, size: int
) -> tuple[Tensor, Tensor]:
    """Square crops [B,T,3,size,size], and which of their pixels are in the picture."""
    middles, sides = views.middles[:, times], views.sides[:, times]
    clips, count = sides.shape
    steps = (torch.arange(size, device=sides.device) + 0.5) / size - 0.5
    unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).view(1, 1, -1, 2)
    frame = middles[:, :, None] + sides[:, :, None, None] * unit
    world = _undo_affine(scenes.cameras[:, times], frame)
    picture = _sample(textures.backgrounds, world, size, "reflection")
    for layer in range(SPRITE_LAYERS):
        place = _undo_affine(scenes.poses[:, times, layer], world)
        if layer == 1:
            place = bend(place, scenes.bends[:, times])
        drawn = _sample(textures.sprites[:, layer], place, size, "zeros")
        opacity = drawn[:, :, 3:] / 255 * scenes.shown[:, layer].view(-1, 1, 1, 1, 1)
        picture = picture + (drawn[:, :, :3] - picture) * opacity
    low, high = scenes.edges[:, None, None, :2], scenes.edges[:, None, None, 2:]
    inside = ((frame >= low) & (frame <= high)).all(dim=3).view(clips, count, 1, size, size)
    light = scenes.light[:, times, :, None, None]
    return _tone(picture * light, scenes.tones), inside


def _tone(pictures: Tensor, tones: Tensor) -> Tensor:
    """The clip's exposure: [B,T,3,S,S] with [B,3]."""
    gain, power, grey = tones.view(-1, 3, 1, 1, 1, 1).unbind(1)
    lit = (pictures * (gain / 255)).clamp(0, 1) ** power * 255
    return lit + (lit.mean(dim=2, keepdim=True) - lit) * grey


def _undo_affine(affine: Tensor, points: Tensor) -> Tensor:
    """Where the points [B,T,P,2] came from, before the affine [B,T,2,3]."""
    inverse, _ = torch.linalg.inv_ex(affine[..., :2])  # a plain `inv` would wait for the GPU
    return (points - affine[..., None, :, 2]) @ inverse.transpose(-1, -2)


def _sample(textures: Tensor, points: Tensor, size: int, beyond: str) -> Tensor:
    """[B,C,H,W] at [B,T,size²,2] → [B,T,C,size,size]."""
    clips, count = points.shape[:2]
    drawn = F.grid_sample(
        textures,
        points.reshape(clips, count * size, size, 2),
        mode="bilinear",
        padding_mode=beyond,
        align_corners=False,
    )
    return drawn.view(clips, -1, count, size, size).transpose(1, 2)


def _degrade(pictures: Tensor, inside: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, contrast, noise and rounding; black beyond the picture: [B,T,3,S,S] → [B,T,S,S,3]."""
    clips, count, _, size, _ = pictures.shape

    def rand() -> Tensor:
        shape = (clips, count, 1, 1, 1)
        return torch.rand(shape, generator=generator, device=pictures.device)

    flat = pictures.reshape(-1, 3, size, size)
    blurred = F.avg_pool2d(flat, 3, 1, 1, count_include_pad=False).view_as(pictures)
    pictures = pictures + (blurred - pictures) * (rand() * 1.6 - 0.6).clamp(0, 1)
    pictures = 128 + (pictures - 128) * (0.75 + 0.4 * rand())
    grain = torch.randn(pictures.shape, generator=generator, device=pictures.device)
    pictures = pictures + grain * 6 * rand() ** 2
    pictures = pictures.clamp(0, 255) * inside
    return pictures.byte().permute(0, 1, 3, 4, 2).contiguous()
