"""The average of a run's recent weights, which tracks better than the weights of any one step."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

__all__ = ["copy_for_average", "update_average"]

Network = TypeVar("Network", bound=nn.Module)


def copy_for_average(network: Network) -> Network:
    """A copy that the average is kept in."""
    return copy.deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, share: float) -> None:
    """Move the average towards the weights after `step` steps.

    It reaches back over that share of the steps so far, so a short run's forgets its start too.
    """
    weight = 1 / (1 + share * step)
    latest = network.state_dict()
    for name, mean in average.state_dict().items():
        if mean.is_floating_point():
            mean.lerp_(latest[name], weight)
        else:  # BatchNorm's count of batches
            mean.copy_(latest[name])
