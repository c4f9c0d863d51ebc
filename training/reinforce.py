"""RELO's second stage: reinforcement learning of policy and value."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical

from relo_edge.errors import InputError
from relo_edge.network.heads import PolicyHead
from relo_edge.network.relo import Relo
from relo_edge.training.losses import gather_boxes, pair_iou
from relo_edge.training.render import ClipBatch
from relo_edge.training.rewards import (
    clip_auc,
    frame_rewards,
    group_advantages,
    normalise_advantages,
)
from relo_edge.training.rollout import roll_out, shift_logits

__all__ = ["ALGORITHMS", "Reinforce"]

ALGORITHMS = ("actor-critic", "ppo", "grpo")


@dataclass(eq=False)
class Reinforce:
    """The stage and its choices; the defaults are the paper's."""

    algorithm: str = "actor-critic"
    auc_weight: float = 1.0
    value_weight: float = 0.5
    clip_range: float = 0.2
    """How far PPO and GRPO let the policy move from the one that acted."""
    group: int = 8
    """Tries per clip in GRPO."""
    refresh: int = 4
    """Steps for which PPO and GRPO keep the policy that acts."""
    parts: int = 1
    """Batches that this process takes in a step."""
    _acting: PolicyHead | None = None
    _age: int = field(default=0)

    name = "reinforce"
    has_policy = True

    def __post_init__(self) -> None:
        if self.algorithm not in ALGORITHMS:
            raise InputError("algorithm", found=self.algorithm, expected=" | ".join(ALGORITHMS))

    def group_parameters(self, network: Relo) -> list[dict[str, object]]:
        """Only the two heads learn."""
        network.requires_grad_(False)
        learning = [network.policy_model, network.value_model]
        for head in learning:
            head.requires_grad_(True)
        return [{"params": [p for head in learning for p in head.parameters()], "scale": 1.0}]

    def set_mode(self, network: Relo) -> None:
        """All else is frozen, the statistics of its BatchNorm included."""
        network.eval()
        network.policy_model.train()
        network.value_model.train()

    def learn(self, network: Relo, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, and what to show of it."""
        tries = self.group if self.algorithm == "grpo" else 1
        acting = self._take_acting(network)
        chosen, acted, overlaps, values, entropies = [], [], [], [], []
        for frame, maps in roll_out(network, batch):
            policy = _read_policy(maps.policy_logits)
            with torch.no_grad():
                old = (
                    Categorical(logits=acting(maps.features).float().flatten(1))
                    if acting
                    else policy
                )
                cells = old.sample((tries,))
                boxes = gather_boxes(maps, cells.T)
                overlaps.append(pair_iou(boxes, batch.boxes[:, frame, None]).T)
            chosen.append(policy.log_prob(cells))
            acted.append(old.log_prob(cells))
            values.append(network.value_model(maps.features).float())
            entropies.append(policy.entropy().mean())
        seen, iou = batch.seen.float(), torch.stack(overlaps, dim=2)
        rewards = torch.stack([frame_rewards(one, seen, self.auc_weight) for one in iou])
        value = torch.stack(values, dim=1)
        if self.algorithm == "grpo":
            advantages = group_advantages(rewards, seen)
        else:
            advantages = normalise_advantages(rewards - value.detach(), seen)
        steps = self._weigh_steps(torch.stack(chosen, dim=2), torch.stack(acted, dim=2), advantages)
        count = seen.sum().clamp(min=1)
        policy_loss = -(steps.mean(dim=0) * seen).sum() / count
        value_loss = (F.mse_loss(value, rewards.mean(dim=0), reduction="none") * seen).sum() / count
        shown = {
            "iou": (iou.mean(dim=0) * seen).sum() / count,
            "auc": clip_auc(iou[0], seen).mean(),
            "entropy": torch.stack(entropies).mean().detach(),
            "value_error": value_loss.detach(),
        }
        return policy_loss + self.value_weight * value_loss, shown

    def finish(self, network: Relo, batch: ClipBatch) -> None:
        """Shift the logits: the tracker's window expects them above zero."""
        shift_logits(network, batch)

    def _weigh_steps(self, chosen: Tensor, acted: Tensor, advantages: Tensor) -> Tensor:
        """Each choice's term of the objective: [tries,B,F]."""
        if self.algorithm == "actor-critic":
            return chosen * advantages
        ratio = (chosen - acted).exp()
        bounded = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        return torch.minimum(ratio * advantages, bounded * advantages)

    def _take_acting(self, network: Relo) -> PolicyHead | None:
        """The policy that acts for PPO and GRPO: a copy some steps old."""
        if self.algorithm == "actor-critic":
            return None
        if self._acting is None or self._age >= self.refresh * self.parts:
            self._acting, self._age = copy.deepcopy(network.policy_model), 0
        self._age += 1
        return self._acting


def _read_policy(logits: Tensor) -> Categorical:
    """A choice among all cells of each map [B,G,G]."""
    return Categorical(logits=logits.float().flatten(1))
