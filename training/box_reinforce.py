"""DRLT's training: REINFORCE with a Gaussian on the box (Zhang et al., 2017, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relo_edge.network.drlt import Drlt
from relo_edge.training.frame_clips import FrameClips
from relo_edge.training.losses import pair_iou

__all__ = ["BoxReinforce", "distance_reward", "overlap_reward", "policy_loss"]


@dataclass(frozen=True)
class BoxReinforce:
    """The stage and its choices; the defaults are the paper's."""

    episodes: int = 5
    """Boxes sampled in each frame: N."""
    spread: float = 0.01
    """The Gaussian's standard deviation, in shares of the frame."""
    distance_share: float = 0.6
    """The share of the steps that learn from distance: 300 of 500 epochs. The others, overlap."""

    name = "drlt"
    has_policy = True

    def group_parameters(self, network: Drlt) -> list[dict[str, object]]:
        """Everything learns."""
        return [{"params": list(network.parameters()), "scale": 1.0}]

    def set_mode(self, network: Drlt) -> None:
        """There is nothing that behaves otherwise in training."""
        network.train()

    def learn(self, network: Drlt, batch: FrameClips) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, and what to show of it."""
        means = network.follow(batch.frames, batch.boxes[:, 0])
        noise = torch.randn(self.episodes, *means.shape, device=means.device)
        boxes = means.detach() + self.spread * noise
        early = batch.progress < self.distance_share
        rewards = (distance_reward if early else overlap_reward)(boxes, batch.boxes)
        overlaps = overlap_reward(means.detach()[None], batch.boxes)
        shown = {"reward": rewards.mean(), "iou": overlaps[0, :, 1:].mean()}
        return policy_loss(means, boxes, rewards, self.spread), shown

    def finish(self, network: Drlt, batch: FrameClips) -> None:
        """Nothing to do: what was trained is what tracks."""


def distance_reward(boxes: Tensor, wanted: Tensor) -> Tensor:
    """Equation 2: −mean −max of the errors of boxes [N,B,T,4] → [N,B,T]."""
    error = (boxes - wanted).abs()
    return -error.mean(dim=-1) - error.amax(dim=-1)


def overlap_reward(boxes: Tensor, wanted: Tensor) -> Tensor:
    """Equation 3: the IoU of boxes [N,B,T,4], centre and size; none of a box turned inside out."""
    boxes = torch.cat([boxes[..., :2], boxes[..., 2:].clamp(min=0)], dim=-1)
    return pair_iou(boxes, wanted.expand_as(boxes))


def policy_loss(means: Tensor, boxes: Tensor, rewards: Tensor, spread: float) -> Tensor:
    """A loss whose gradient is −equation 7, as a mean over clips and frames.

    A sampled box is never seen by the network again, so that it moves the reward of its own frame
    alone: R_t is r_t, and b_t the mean of r_t over the episodes, as algorithm 1 has it.
    """
    advantages = rewards - rewards.mean(dim=0)
    log_density = -((boxes - means) ** 2).sum(dim=-1) / (2 * spread**2)
    return -(log_density * advantages).mean()
