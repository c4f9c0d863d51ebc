"""From scenes to the crops a tracker would see, on whatever device holds the atlas."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from relo_edge.spec import TrackerProtocol, Variant
from relo_edge.training.scenes import Scenes, draw_scenes
from relo_edge.training.textures import Atlas

__all__ = ["ClipBatch", "Jitter", "render_clips"]

SPRITE_LAYERS = 3
LEAST_SEEN = 0.3
"""A target of which less is in the picture teaches nothing in that frame."""


@dataclass(frozen=True)
class Jitter:
    """How far the crop lies from the target, as if the last box had been wrong."""

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
    protocol: TrackerProtocol = variant.protocol()
    boxes = scenes.target_boxes
    centre, size = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    size = size.clamp(min=1e-3)
    mean_side = size.prod(dim=2).sqrt()
    rand = lambda *shape: torch.rand(  # noqa: E731
        clips, *shape, generator=generator, device=boxes.device
    )
    calm = torch.where(rand(1) < jitter.calm, 1 / 3, 1.0)
    shift = (rand(frames, 2) - 0.5) * jitter.centre * calm[..., None]
    normal = torch.randn(clips, frames, generator=generator, device=boxes.device)
    grow = (normal * jitter.scale * calm).exp()
    sides = mean_side[:, 1:] * protocol.search_factor * grow
    middles = centre[:, 1:] + shift * (mean_side[:, 1:] * grow)[..., None]
    template_side = mean_side[:, 0] * protocol.template_factor
    templates = _render_view(
        atlas, scenes, slice(0, 1), centre[:, :1], template_side[:, None], variant.template_size
    )
    searches = _render_view(atlas, scenes, slice(1, None), middles, sides, variant.search_size)
    noisy = [_spoil(*view, generator) for view in (templates, searches)]
    shown = size[:, 0] / template_side[:, None]
    last = (variant.template_size - 1) / variant.template_size
    template_boxes = torch.cat([0.5 - shown / last / 2, shown / last], dim=1)
    in_crop = (centre[:, 1:] - middles) / sides[..., None] + 0.5
    whole = scenes.whole_boxes[:, 1:]
    share = size[:, 1:].prod(dim=2) / (whole[..., 2:] - whole[..., :2]).prod(dim=2)
    seen = (share > LEAST_SEEN) & ((in_crop > 0) & (in_crop < 1)).all(dim=2)
    return ClipBatch(
        noisy[0][:, 0],
        template_boxes,
        noisy[1],
        torch.cat([in_crop, size[:, 1:] / sides[..., None]], dim=2),
        seen,
    )


def _render_view(
    atlas: Atlas, scenes: Scenes, times: slice, middles: Tensor, sides: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """Square crops of the frames [B,T,3,size,size], and which of their pixels are in the picture."""
    clips, count = sides.shape
    steps = (torch.arange(size, device=sides.device) + 0.5) / size - 0.5
    unit = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), dim=-1).view(1, 1, -1, 2)
    frame = middles[:, :, None] + sides[:, :, None, None] * unit
    world = _undo_affine(scenes.cameras[:, times], frame)
    picture = _sample(atlas.grounds[scenes.ground], world, size, "reflection")
    for layer in range(SPRITE_LAYERS):
        texture = _undo_affine(scenes.poses[:, times, layer], world)
        if layer == 1:
            texture = _bend(texture, scenes.bends[:, times])
        drawn = _sample(atlas.sprites[scenes.sprites[:, layer]], texture, size, "zeros")
        opacity = drawn[:, :, 3:] / 255 * scenes.shown[:, layer].view(-1, 1, 1, 1, 1)
        picture = picture + (drawn[:, :, :3] - picture) * opacity
    low, high = scenes.edges[:, None, None, :2], scenes.edges[:, None, None, 2:]
    inside = ((frame >= low) & (frame <= high)).all(dim=3).view(clips, count, 1, size, size)
    light = scenes.light[:, times, :, None, None]
    return picture * light, inside


def _undo_affine(affine: Tensor, points: Tensor) -> Tensor:
    """Where the points [B,T,P,2] came from, before the affine [B,T,2,3]."""
    inverse = torch.linalg.inv(affine[..., :2])
    return (points - affine[..., None, :, 2]) @ inverse.transpose(-1, -2)


def _bend(points: Tensor, bends: Tensor) -> Tensor:
    """A wave through the sprite, so that its outline deforms a little."""
    strength, phase = bends[..., None, :1], bends[..., None, 1:]
    return points + strength * torch.sin(3 * points.flip(-1) + phase)


def _sample(textures: Tensor, points: Tensor, size: int, beyond: str) -> Tensor:
    """[B,C,H,W] at [B,T,size²,2] → [B,T,C,size,size]."""
    clips, count = points.shape[:2]
    drawn = F.grid_sample(
        textures.float(),
        points.reshape(clips, count * size, size, 2),
        mode="bilinear",
        padding_mode=beyond,
        align_corners=False,
    )
    return drawn.view(clips, -1, count, size, size).transpose(1, 2)


def _spoil(pictures: Tensor, inside: Tensor, generator: torch.Generator) -> Tensor:
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
