"""Geometry and light of a batch of synthetic clips; nothing is rendered here.

Lengths in the world are those of the background picture, -1 to 1. A pose takes sprite coordinates
into the world; a camera takes the world into the frame, where boxes and crops are axis-aligned.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relo_edge.training.textures import Atlas

__all__ = ["Pace", "Scenes", "bend", "draw_scenes"]

REGION_SHARE = 0.4
"""Share of targets that are part of the background."""
DISTRACTOR_SHARE = 0.7
TWIN_SHARE = 0.25
"""Share of distractors that are copies of the target."""
PEER_SHARE = 0.5
"""Share of the other distractors that are of the target's category."""
OCCLUDER_SHARE = 0.25
EDGE_SHARE = 0.06
BEND = 0.15
GREY_SHARE = 0.12
"""Share of greyscale clips."""
FAR = 1e3


@dataclass(frozen=True, eq=False)
class Scenes:
    """B clips of F+1 frames; frame 0 shows the template."""

    background: Tensor
    """[B] index of the background."""
    sprites: Tensor
    """[B,3] distractor, target, occluder, drawn in this order."""
    shown: Tensor
    """[B,3] 0 or 1."""
    poses: Tensor
    """[B,F+1,3,2,3] sprite → world."""
    cameras: Tensor
    """[B,F+1,2,3] world → frame."""
    outline: Tensor
    """[B,P,2] the target's, in its own coordinates."""
    bends: Tensor
    """[B,F+1,2] how far, and in what phase, the target's picture is bent."""
    edges: Tensor
    """[B,4] left, top, right, bottom of the picture in the frame; black beyond."""
    light: Tensor
    """[B,F+1,3] gain of each colour."""
    tones: Tensor
    """[B,3] exposure, gamma and greyscale of the whole clip."""

    def to(self, device: torch.device) -> Scenes:
        """The same elsewhere."""
        return Scenes(**{name: value.to(device) for name, value in vars(self).items()})

    def at(self, frame: int) -> Scenes:
        """The same clips, one frame of them."""
        one = slice(frame, frame + 1)
        return replace(
            self,
            poses=self.poses[:, one],
            cameras=self.cameras[:, one],
            bends=self.bends[:, one],
            light=self.light[:, one],
        )

    @property
    def target_boxes(self) -> Tensor:
        """[B,F+1,4] x1, y1, x2, y2 in the frame, as far as the target is in the picture."""
        whole = self.whole_boxes
        low = torch.minimum(whole[..., :2].maximum(self.edges[:, None, :2]), whole[..., 2:])
        high = torch.maximum(whole[..., 2:].minimum(self.edges[:, None, 2:]), low)
        return torch.cat([low, high], dim=2)

    @property
    def centred_boxes(self) -> Tensor:
        """The same as cx, cy, w, h."""
        low, high = self.target_boxes.split(2, dim=2)
        return torch.cat([(low + high) / 2, (high - low).clamp(min=1e-3)], dim=2)

    def judge_visible(self, least: float) -> Tensor:
        """Whether enough of the target is in the picture: [B,F+1]."""
        whole, shown = self.whole_boxes, self.target_boxes
        areas = [(boxes[..., 2:] - boxes[..., :2]).prod(dim=2) for boxes in (shown, whole)]
        return areas[0] > least * areas[1]

    @property
    def whole_boxes(self) -> Tensor:
        """The same without the picture's edges."""
        bent = unbend(self.outline[:, None], self.bends)
        moved = apply_affine(self.cameras, apply_affine(self.poses[:, :, 1], bent))
        return torch.cat([moved.amin(dim=2), moved.amax(dim=2)], dim=2)


def apply_affine(affine: Tensor, points: Tensor) -> Tensor:
    """[…,2,3] on […,P,2]."""
    return points @ affine[..., :2].transpose(-1, -2) + affine[..., 2].unsqueeze(-2)


def bend(points: Tensor, bends: Tensor) -> Tensor:
    """Sprite coordinates [B,T,P,2] displaced by a sine wave, which deforms the target."""
    strength, phase = bends[..., None, :1], bends[..., None, 1:]
    return points + strength * torch.sin(3 * points.flip(-1) + phase)


def unbend(points: Tensor, bends: Tensor) -> Tensor:
    """The inverse of `bend`."""
    strength, phase = bends[..., None, :1], bends[..., None, 1:]
    moved = points
    for _ in range(4):  # a contraction while 3 times the strength stays below 1
        moved = points - strength * torch.sin(3 * moved.flip(-1) + phase)
    return moved


@dataclass(frozen=True)
class Pace:
    """Smooth motion, sampled at random intervals of up to `intervals`."""

    intervals: int = 7
    momentum: float = 0.9
    speed: float = 0.08


def draw_scenes(
    atlas: Atlas,
    generator: torch.Generator,
    clips: int,
    frames: int,
    pace: Pace | None = None,
) -> Scenes:
    """Draw clips of `frames` search frames: independent views, or with a pace sequences."""
    draw = _Random(generator, clips, frames + 1, atlas.backgrounds.device, pace)
    background = draw.index(len(atlas.backgrounds))
    is_region = draw.chance(REGION_SHARE)
    which = draw.index(atlas.regions.shape[1])
    region, box = atlas.regions[background, which], atlas.region_outlines[background, which]
    target, other = draw.index(len(atlas.sprites)), draw.index(len(atlas.sprites))
    peer = atlas.peers[target, draw.index(atlas.peers.shape[1])]
    distractor = torch.where(draw.chance(PEER_SHARE) > 0, peer, other)
    distractor = torch.where(draw.chance(TWIN_SHARE) > 0, target, distractor)
    size = torch.where(
        is_region > 0, (region[:, 2] * region[:, 3]).sqrt(), draw.span(0.16, 0.45, log=True)
    )
    middle = torch.where(
        is_region[:, None] > 0, region[:, :2] + region[:, 2:] / 2, draw.spread((2,), 0.45)
    )
    moving = 1 - is_region
    pose = _pose_target(draw, middle, size, region, is_region, moving)
    beside = _pose_beside(draw, pose, size, 0.9, 2.6)
    above = _pose_beside(draw, pose, size, 0.25, 1.1)
    cameras = _move_camera(draw, middle, size, is_region)
    scenes = Scenes(
        background,
        torch.stack([distractor, target, draw.index(len(atlas.sprites))], dim=1),
        torch.stack([draw.chance(DISTRACTOR_SHARE), moving, draw.chance(OCCLUDER_SHARE)], dim=1),
        torch.stack([beside, pose, above], dim=2),
        cameras,
        torch.where(is_region[:, None, None] > 0, box, atlas.outlines[target]),
        torch.stack([moving[:, None] * draw.path(BEND), draw.path(3.0)], dim=2),
        torch.tensor([-FAR, -FAR, FAR, FAR], device=background.device).repeat(clips, 1),
        (1 + 0.25 * draw.path(1.0)[..., None] + 0.08 * draw.spread((3,), 1.0)[:, None]).clamp(0.3),
        _draw_tones(draw),
    )
    return _frame_pictures(draw, scenes)


class _Random:
    """Random numbers for one batch."""

    def __init__(
        self,
        generator: torch.Generator,
        clips: int,
        times: int,
        device: torch.device,
        pace: Pace | None,
    ) -> None:
        self.generator, self.clips, self.times, self.device = generator, clips, times, device
        self.pace = pace
        self.instants = self._draw_instants(pace) if pace else None

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(self.clips, *shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.clips, *shape, generator=self.generator, device=self.device)

    def index(self, count: int) -> Tensor:
        return (self.uniform() * count).long().clamp(max=count - 1)

    def chance(self, share: float) -> Tensor:
        return (self.uniform() < share).float()

    def span(self, low: float, high: float, *, log: bool = False) -> Tensor:
        if log:
            return low * (high / low) ** self.uniform()
        return low + (high - low) * self.uniform()

    def spread(self, shape: tuple[int, ...], reach: float) -> Tensor:
        return reach * (2 * self.uniform(*shape) - 1)

    def _draw_instants(self, pace: Pace) -> Tensor:
        """[B,F+1] time of each frame; the largest interval is drawn for each clip."""
        most = 1 + (self.uniform(1) * pace.intervals).long().clamp(max=pace.intervals - 1)
        steps = 1 + (self.uniform(self.times) * most).long().minimum(most - 1)
        steps[:, 0] = 0
        return steps.cumsum(dim=1)

    def path(self, strength: float) -> Tensor:
        """[B,F+1] from a start at the template: a random walk, smooth where there is a pace."""
        if self.pace and self.instants is not None:
            return self._smooth_path(strength, self.pace, self.instants)
        steps = self.normal(self.times) * 0.15
        steps[:, 0] = 0
        steps[:, 1] = self.normal() * 0.6
        # Some clips hold still, others leap: the strength is drawn for each.
        return strength * self.uniform(1) * steps.cumsum(dim=1)

    def _smooth_path(self, strength: float, pace: Pace, instants: Tensor) -> Tensor:
        """An autoregressive velocity, integrated, bounded and sampled at the frames' times."""
        span = (self.times - 1) * pace.intervals + 1
        kicks = self.normal(span) * pace.speed * (1 - pace.momentum**2) ** 0.5
        kicks[:, 0] = self.normal() * pace.speed
        velocity, velocities = torch.zeros_like(kicks[:, 0]), []
        for kick in kicks.unbind(1):
            velocity = pace.momentum * velocity + kick
            velocities.append(velocity)
        way = torch.stack(velocities, dim=1).cumsum(dim=1)
        way = (way - way[:, :1]).gather(1, instants)
        return strength * self.uniform(1) * 2 * torch.tanh(way / 2)


def _compose(linear: Tensor, shift: Tensor) -> Tensor:
    return torch.cat([linear, shift.unsqueeze(-1)], dim=-1)


def _turn(angle: Tensor) -> Tensor:
    """[…] → [… ,2,2]"""
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)


def _pose_target(
    draw: _Random, middle: Tensor, size: Tensor, region: Tensor, is_region: Tensor, moving: Tensor
) -> Tensor:
    """A sprite wanders, turns and stretches over its background; a region stays where it is."""
    drift = torch.stack([draw.path(1.2), draw.path(1.2)], dim=2) * size[:, None, None]
    angle = moving[:, None] * (draw.spread((1,), 3.14159) + draw.path(0.8))
    stretch = draw.path(0.3)
    grown = (0.5 * size[:, None]) * draw.path(0.3).exp()
    sprite = torch.stack([grown * stretch.exp(), grown / stretch.exp()], dim=2)
    fixed = (region[:, None, 2:] / 2).expand_as(sprite)
    half = torch.where(is_region[:, None, None] > 0, fixed, sprite)
    return _compose(
        _turn(angle) * half.unsqueeze(2), middle[:, None] + moving[:, None, None] * drift
    )


def _pose_beside(draw: _Random, pose: Tensor, size: Tensor, near: float, far: float) -> Tensor:
    """Another sprite at some distance from the target, with a motion of its own."""
    away, round_ = draw.span(near, far) * size, draw.spread((), 3.14159)
    start = pose[:, :1, :, 2] + (away * torch.stack([round_.cos(), round_.sin()])).T[:, None]
    shift = start + torch.stack([draw.path(1.5), draw.path(1.5)], dim=2) * size[:, None, None]
    half = 0.5 * size * draw.span(0.6, 1.4)
    angle = draw.spread((1,), 3.14159) + draw.path(0.8)
    return _compose(_turn(angle) * half[:, None, None, None], shift)


def _draw_tones(draw: _Random) -> Tensor:
    """Exposure, gamma and greyscale of each clip."""
    return torch.stack(
        [(0.25 * draw.normal()).exp(), (0.2 * draw.normal()).exp(), draw.chance(GREY_SHARE)], dim=1
    )


def _move_camera(draw: _Random, middle: Tensor, size: Tensor, is_region: Tensor) -> Tensor:
    """Zoom, stretch and roll about the target; crops have shifts of their own."""
    zoom, stretch, roll = draw.path(0.5).exp(), draw.path(0.2).exp(), draw.path(0.25)
    # A region's box would be loose if its picture rolled as far.
    roll = roll * (1 - 0.6 * is_region[:, None])
    # Frames are measured in target sizes.
    scale = torch.stack([zoom * stretch, zoom / stretch], dim=2) / size[:, None, None]
    linear = _turn(roll) * scale.unsqueeze(3)
    return _compose(linear, -(linear @ middle[:, None, :, None]).squeeze(3))


def _frame_pictures(draw: _Random, scenes: Scenes) -> Scenes:
    """Put a frame edge near the target in EDGE_SHARE of the clips, for each edge."""
    boxes = scenes.whole_boxes
    centre = (boxes[..., :2] + boxes[..., 2:]).mean(dim=1) / 2
    away = 0.1 + 1.6 * draw.uniform(4)
    away = torch.where(draw.uniform(4) < EDGE_SHARE, away, FAR)
    return replace(scenes, edges=torch.cat([centre - away[:, :2], centre + away[:, 2:]], dim=1))
