"""Rewards and advantages of chosen cells."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["clip_auc", "frame_rewards", "group_advantages", "normalise_advantages"]

STEPS = 20
"""The success curve is sampled at 0, 1/20, … 1."""
TINY = 1e-6


def clip_auc(overlaps: Tensor, seen: Tensor) -> Tensor:
    """Area under each clip's success curve: IoU [B,F] of the frames that count → [B].

    By trapezoids, as the paper's reward has it; a published AUC is the same curve's mean.
    """
    thresholds = torch.linspace(0, 1, STEPS + 1, device=overlaps.device)
    above = (overlaps[..., None] > thresholds).float() * seen[..., None]
    success = above.sum(dim=1) / seen.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.trapezoid(success, thresholds, dim=1)


def frame_rewards(overlaps: Tensor, seen: Tensor, auc_weight: float) -> Tensor:
    """Each frame's IoU plus the weighted AUC of its clip: [B,F]."""
    return overlaps + auc_weight * clip_auc(overlaps, seen)[:, None]


def normalise_advantages(advantages: Tensor, seen: Tensor) -> Tensor:
    """Zero mean and unit deviation over the frames that count; the others get nothing."""
    count = seen.sum().clamp(min=1)
    mean = (advantages * seen).sum() / count
    spread = (((advantages - mean) ** 2 * seen).sum() / count).sqrt()
    return (advantages - mean) / (spread + TINY) * seen


def group_advantages(rewards: Tensor, seen: Tensor) -> Tensor:
    """How each of G tries [G,B,F] did beside the others at the same frame."""
    mean, spread = rewards.mean(dim=0), rewards.std(dim=0, unbiased=False)
    return (rewards - mean) / (spread + TINY) * seen
