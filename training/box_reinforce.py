"""DRLT's training: REINFORCE with a Gaussian on the box (Zhang et al., 2017, section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from relo_edge.network.drlt import Drlt
from relo_edge.network.drlt_sizes import BOX
from relo_edge.training.frame_clips import FrameClips
from relo_edge.training.losses import find_cells, pair_iou

__all__ = ["BoxReinforce", "detector_loss", "distance_reward", "overlap_reward", "policy_loss"]


@dataclass(frozen=True)
class BoxReinforce:
    """The stage and its choices; episodes, spread and the rewards' shares are the paper's."""

    episodes: int = 5
    """Boxes sampled in each frame: N."""
    spread: float = 0.01
    """The Gaussian's standard deviation, in shares of the frame."""
    detector_share: float = 0.1
    """The share of the steps in which the detector is trained as one, before REINFORCE."""
    frozen_share: float = 0.4
    """The share of the steps after which the detector learns along with everything else."""
    distance_share: float = 0.6
    """The share of the others that learn from distance: 300 of 500 epochs. The last, overlap."""

    name = "drlt"
    has_policy = True

    def group_parameters(self, network: Drlt) -> list[dict[str, object]]:
        """Everything learns, in its turn."""
        return [{"params": list(network.parameters()), "scale": 1.0}]

    def set_mode(self, network: Drlt) -> None:
        """There is nothing that behaves otherwise in training."""
        network.train()

    def learn(self, network: Drlt, batch: FrameClips) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, and what to show of it."""
        detects = batch.progress < self.detector_share
        late = batch.progress >= self.detector_share + self.distance_share * (
            1 - self.detector_share
        )
        maps = network.observation.detect(batch.frames.flatten(0, 1))
        # Frozen while it is read by layers that know nothing yet.
        seen = maps if batch.progress >= self.frozen_share else maps.detach()
        means = network.follow_maps(seen.unflatten(0, batch.boxes.shape[:2]), batch.boxes[:, 0])
        noise = torch.randn(self.episodes, *means.shape, device=means.device)
        boxes = means.detach() + self.spread * noise
        rewards = (overlap_reward if late else distance_reward)(boxes, batch.boxes)
        overlaps = overlap_reward(means.detach()[None], batch.boxes)
        own, hits = detector_loss(maps, batch.boxes.flatten(0, 1))
        loss = own if detects else policy_loss(means, boxes, rewards, self.spread)
        shown = {"reward": rewards.mean(), "iou": overlaps[0, :, 1:].mean(), "hits": hits}
        return loss, shown

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


def detector_loss(maps: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """One target a frame: a loss of the last maps [B,C,G,G], and the share of cells found.

    As in YOLO, a cell's first channel tells whether the target's centre lies in it; the next four,
    where in the cell, and how large the box is, in cells.
    """
    grid = maps.shape[-1]
    flat = maps.float().flatten(2)
    cells = find_cells(wanted, grid)
    score = F.cross_entropy(flat[:, 0], cells)
    index = cells[:, None, None].expand(-1, BOX, 1)
    found = flat[:, 1 : 1 + BOX].gather(2, index)[..., 0]
    corners = torch.stack([cells % grid, cells // grid], dim=1)
    told = torch.cat([wanted[:, :2] * grid - corners, wanted[:, 2:] * grid], dim=1)
    hits = (flat[:, 0].argmax(dim=1) == cells).float().mean()
    return score + F.l1_loss(found, told), hits
