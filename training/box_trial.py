"""A DRLT on held-out synthetic clips, beside boxes that look at nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relo_edge.measures.accuracy import measure_auc
from relo_edge.network.drlt import Drlt
from relo_edge.training.box_reinforce import overlap_reward
from relo_edge.training.frame_clips import draw_clip

__all__ = ["HELD_OUT", "BoxTrial", "move_on", "stay", "try_boxes"]

HELD_OUT = 5000
"""First seed of the held-out clips, as of the other stages; training draws from a million."""
PICTURE = (640, 360)
"""Their size: the one at which everything else is tried on them, not the one trained on."""


@dataclass(frozen=True)
class BoxTrial:
    """Mean IoU over all clips, without the start frames."""

    clips: int
    frames: int
    mean_iou: float
    auc: float
    still_iou: float
    """Of the first frame's box, never moved."""
    moving_iou: float
    """Of the first frame's box, moved on as truly as from the first frame to the second."""
    start_iou: float | None = None
    """Of the weights before the first step."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def describe(self) -> str:
        """One line."""
        start = "" if self.start_iou is None else f", the untrained weights {self.start_iou:.3f}"
        return (
            f"closed loop on {self.clips} clips of {self.frames} frames: mean IoU "
            f"{self.mean_iou:.3f}, AUC {self.auc:.3f}; a static box {self.still_iou:.3f}, "
            f"one of constant velocity {self.moving_iou:.3f}{start}"
        )


@torch.no_grad()
def try_boxes(
    network: Drlt,
    clips: int = 64,
    frames: int = 60,
    start_iou: float | None = None,
    advance: Callable[[], None] = lambda: None,
) -> BoxTrial:
    """Follow the first `clips` held-out clips; `advance` is called after each."""
    device = next(network.parameters()).device
    found: list[list[Tensor]] = [[], [], []]
    for index in range(clips):
        pictures, truth = draw_clip(
            HELD_OUT + index, np.arange(frames), network.variant.frame_size, PICTURE
        )
        followed = network.follow(pictures[None].to(device), truth[None, 0].to(device))[0].cpu()
        for overlaps, boxes in zip(found, (followed, stay(truth), move_on(truth)), strict=True):
            overlaps.append(overlap_reward(boxes, truth)[1:])
        advance()
    own, still, moving = (torch.cat(overlaps).double().numpy() for overlaps in found)
    means = [float(one.mean()) for one in (own, still, moving)]
    return BoxTrial(clips, frames, means[0], measure_auc(own), means[1], means[2], start_iou)


def stay(truth: Tensor) -> Tensor:
    """The first of the boxes [T,4] in every frame."""
    return truth[:1].expand_as(truth)


def move_on(truth: Tensor) -> Tensor:
    """The first box, whose centre goes on by as much as it truly did to the second frame."""
    moved = stay(truth).clone()
    moved[:, :2] += torch.arange(len(truth))[:, None] * (truth[1] - truth[0])[:2]
    return moved
