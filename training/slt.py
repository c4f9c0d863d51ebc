"""Sequence-level training (Kim et al., ECCV 2022): self-critical REINFORCE in closed loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Categorical

from relo_edge.network.relo import FrameMaps, Relo
from relo_edge.training.closed_loop import pick_best, sample_cells, track_sequences
from relo_edge.training.losses import box_loss, find_cells, gather_boxes, mean_seen
from relo_edge.training.rewards import clip_auc
from relo_edge.training.sequences import Sequences

__all__ = ["SequenceLevel", "clip_reward", "self_critical_loss"]

NEAR = 1
"""Largest distance, in cells, from the target's cell to a chosen cell whose box is trained."""


@dataclass(frozen=True)
class SequenceLevel:
    """The stage: a sampling and an argmax tracker with the same weights on the same clips."""

    auc_weight: float = 1.0
    """Weight of the clip's AUC in the reward, beside its average overlap."""
    box_weight: float = 1.0
    encoder_rate: float = 0.1

    name = "slt"
    has_policy = True

    def group_parameters(self, network: Relo) -> list[dict[str, object]]:
        """All parameters used in tracking: not the value head, nor the decoder's centre branch."""
        network.requires_grad_(False)
        heads = [
            parameter
            for module in (network.decoder, network.policy_model)
            for name, parameter in module.named_parameters()
            if module is network.policy_model or "_ctr" not in name
        ]
        encoder = list(network.encoder.parameters())
        for parameter in [*encoder, *heads]:
            parameter.requires_grad_(True)
        return [{"params": encoder, "scale": self.encoder_rate}, {"params": heads, "scale": 1.0}]

    def set_mode(self, network: Relo) -> None:
        """Evaluation mode: the deployed tracker is what is rewarded."""
        network.eval()

    def learn(self, network: Relo, batch: Sequences) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, and what to show of it."""
        visible = batch.visible[:, 1:].float()
        with torch.no_grad():
            greedy = [step.overlaps for step in track_sequences(network, batch, pick_best)]
        chosen, overlaps, boxes, entropies = [], [], [], []
        for step in track_sequences(network, batch, sample_cells):
            policy = Categorical(logits=step.scores)
            chosen.append(policy.log_prob(step.cells))
            entropies.append(policy.entropy().mean().detach())
            overlaps.append(step.overlaps)
            boxes.append(_near_box_loss(step.maps, step.cells, step.wanted, step.seen))
        sampled, best = torch.stack(overlaps, dim=1), torch.stack(greedy, dim=1)
        reward, baseline = (clip_reward(one, visible, self.auc_weight) for one in (sampled, best))
        policy_loss = self_critical_loss(torch.stack(chosen, dim=1), reward, baseline)
        regression = torch.stack(boxes).mean()
        shown = {
            "iou": mean_seen(best, visible),
            "sampled_iou": mean_seen(sampled, visible),
            "auc": clip_auc(best, visible).mean(),
            "advantage": (reward - baseline).abs().mean(),
            "entropy": torch.stack(entropies).mean(),
            "box_loss": regression.detach(),
        }
        return policy_loss + self.box_weight * regression, shown

    def finish(self, network: Relo, batch: Sequences) -> None:
        """Nothing to do: the window is part of the loss, so the logits' level is learned."""


def clip_reward(overlaps: Tensor, visible: Tensor, auc_weight: float) -> Tensor:
    """Average overlap plus weighted AUC over each clip's visible frames: [B,F] → [B]."""
    average = (overlaps * visible).sum(dim=1) / visible.sum(dim=1).clamp(min=1)
    return average + auc_weight * clip_auc(overlaps, visible)


def self_critical_loss(chosen: Tensor, reward: Tensor, baseline: Tensor) -> Tensor:
    """−(r − r′) Σ log p as a mean over clips; `chosen` holds log p [B,F], rewards are [B]."""
    advantage = (reward - baseline).detach()
    return -(advantage * chosen.sum(dim=1)).mean()


def _near_box_loss(maps: FrameMaps, cells: Tensor, wanted: Tensor, seen: Tensor) -> Tensor:
    """Box loss at the target's cell, and at the chosen cell where it is a neighbour."""
    grid = maps.sizes.shape[-1]
    own = find_cells(wanted, grid)
    both = gather_boxes(maps, torch.stack([own, cells], dim=1))
    apart = torch.stack([own % grid - cells % grid, own // grid - cells // grid]).abs().amax(dim=0)
    near = seen * (apart <= NEAR).float()
    first = mean_seen(box_loss(both[:, 0], wanted), seen)
    return (first + mean_seen(box_loss(both[:, 1], wanted), near)) / 2
