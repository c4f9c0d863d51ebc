"""Initial weights where no checkpoint is given."""

from __future__ import annotations

import math

import torch
from torch import nn

from relo_edge.network.relo import Relo
from relo_edge.spec import Variant

__all__ = ["build_fresh"]

EMBEDDING = 0.02
LAYER_SCALE = 0.5
USUAL_SIZE = 0.25
"""A target's share of its search crop's side: the crop is four times as wide."""


def build_fresh(variant: Variant, seed: int) -> Relo:
    """An untrained network with sensible activation scales; the seed decides every weight."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Relo(variant)
        network.apply(_start_module)
        body = network.encoder.body
        for name, parameter in body.named_parameters():
            if name.rsplit(".", 1)[-1].startswith(("ttokens", "pos_embed", "template_", "search_")):
                nn.init.normal_(parameter, std=EMBEDDING)
            elif name.endswith(("gamma_1", "gamma_2")):
                nn.init.constant_(parameter, LAYER_SCALE)
        _start_boxes(network)
    return network


def _start_boxes(network: Relo) -> None:
    """Initial boxes are centred in their cell and as large as a usual target."""
    usual = -math.log(1 / USUAL_SIZE - 1)
    for head, start in ((network.decoder.conv5_size, usual), (network.decoder.conv5_offset, 0.5)):
        nn.init.normal_(head.weight, std=0.01)
        if head.bias is not None:
            nn.init.constant_(head.bias, start)


def _start_module(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=1 / math.sqrt(module.in_features))
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
