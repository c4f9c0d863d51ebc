"""Clips for closed-loop training: a crop is taken on demand, at the tracker's last box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relo_edge.spec import Variant
from relo_edge.training.render import LEAST_SEEN, SceneViews, template_of
from relo_edge.training.scenes import Pace, draw_scenes
from relo_edge.training.textures import Atlas

__all__ = ["Pictures", "Sequences", "draw_sequences", "join_sequences"]

MARGIN = 0.25
"""Least side of a box in a synthetic frame, whose unit is the target's size in the template: the
tracker's ten pixels, for a target of forty."""


class Pictures(Protocol):
    """The frames of a batch of clips, from which square crops are taken."""

    def crop(self, frame: int, middles: Tensor, sides: Tensor, size: int) -> Tensor:
        """Around middles [B,2], sides [B] wide: uint8 RGB [B,size,size,3]."""

    def to(self, device: torch.device) -> Pictures:
        """The same elsewhere."""


@dataclass(frozen=True, eq=False)
class Sequences:
    """B clips of F frames after the template's."""

    pictures: Pictures
    templates: Tensor
    """[B,side,side,3] uint8 RGB."""
    template_boxes: Tensor
    """[B,4] x, y, w, h as the tracker normalises them."""
    boxes: Tensor
    """[B,F+1,4] cx, cy, w, h of the target in each frame, the template's first."""
    visible: Tensor
    """[B,F+1] whether enough of the target is in the frame."""
    edges: Tensor
    """[B,4] left, top, right, bottom of the frames."""
    margin: Tensor
    """[B] least side of a box."""

    @property
    def frames(self) -> int:
        """Frames to track."""
        return self.boxes.shape[1] - 1

    def to(self, device: torch.device) -> Sequences:
        """The same batch elsewhere."""
        moved = {name: value.to(device) for name, value in vars(self).items()}
        return Sequences(**moved)


def draw_sequences(
    atlas: Atlas, variant: Variant, generator: torch.Generator, clips: int, frames: int, pace: Pace
) -> Sequences:
    """Synthetic clips; nothing but their templates is rendered yet."""
    scenes = draw_scenes(atlas, generator, clips, frames, pace)
    device = atlas.backgrounds.device
    seed = int(torch.randint(1 << 31, (), generator=generator, device=device))
    views = SceneViews(atlas, scenes, seed)
    templates, template_boxes = template_of(views, variant)
    return Sequences(
        views,
        templates,
        template_boxes,
        scenes.centred_boxes,
        scenes.judge_visible(LEAST_SEEN),
        scenes.edges,
        torch.full((clips,), MARGIN, device=templates.device),
    )


def join_sequences(parts: Sequence[Sequences]) -> Sequences:
    """Concatenate batches of clips of one length."""
    if len(parts) == 1:
        return parts[0]
    pictures = JoinedPictures(tuple((one.pictures, len(one.boxes)) for one in parts))
    names = [name for name in vars(parts[0]) if name != "pictures"]
    joined = {name: torch.cat([getattr(one, name) for one in parts]) for name in names}
    return Sequences(pictures, **joined)


@dataclass(frozen=True)
class JoinedPictures:
    """The clips of several batches, one batch after the other."""

    parts: tuple[tuple[Pictures, int], ...]

    def crop(self, frame: int, middles: Tensor, sides: Tensor, size: int) -> Tensor:
        """As each part crops its own."""
        counts = [count for _, count in self.parts]
        places = zip(self.parts, middles.split(counts), sides.split(counts), strict=True)
        return torch.cat(
            [part.crop(frame, middle, side, size) for (part, _), middle, side in places]
        )

    def to(self, device: torch.device) -> JoinedPictures:
        """The same elsewhere."""
        return JoinedPictures(tuple((part.to(device), count) for part, count in self.parts))
