"""The whole network: a frame in, policy and boxes out; the caller carries the temporal state."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from relo_edge.network.encoder import Encoder
from relo_edge.network.heads import BoxDecoder, PolicyHead, ValueHead
from relo_edge.spec import PIXEL_MEAN, PIXEL_STD, Variant

__all__ = ["FrameMaps", "Relo", "build_network", "state_shapes"]


class FrameMaps(NamedTuple):
    """What the heads say of one frame, batched."""

    policy_logits: Tensor
    """[B,G,G]"""
    sizes: Tensor
    """[B,2,G,G] width and height relative to the search crop."""
    offsets: Tensor
    """[B,2,G,G] x and y within the cell."""
    features: Tensor
    """[B,C,G,G] what the heads saw; the value head takes it in training."""


class EncoderHolder(nn.Module):
    """The release keeps its encoder one level down."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.body = Encoder(variant)


class Relo(nn.Module):
    """RELO; a released state dict loads strictly."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.encoder = EncoderHolder(variant)
        self.decoder = BoxDecoder(variant)
        self.policy_model = PolicyHead(variant)
        self.value_model = ValueHead(variant)

    def encode_template(self, templates: Tensor, boxes: Tensor) -> Tensor:
        """RGB uint8 crops [N,H,W,3] and normalised x,y,w,h boxes [N,4] → tokens [N,·,C]."""
        return self.encoder.body.encode_template(self._normalise(templates), boxes)

    def forward(
        self, search: Tensor, template_tokens: Tensor, state: Tensor, has_history: Tensor
    ) -> tuple[FrameMaps, Tensor]:
        """One frame of B targets: RGB uint8 crops [B,H,W,3] → maps and the new state."""
        body, grid = self.encoder.body, self.variant.grid
        tokens, state = body(
            body.encode_search(self._normalise(search)), template_tokens, state, has_history
        )
        features = tokens.transpose(1, 2).unflatten(2, (grid, grid))
        sizes, offsets = self.decoder(features)
        return FrameMaps(self.policy_model(features), sizes, offsets, features), state

    def _normalise(self, pixels: Tensor) -> Tensor:
        weight = self.encoder.body.ttokens
        mean, std = weight.new_tensor(PIXEL_MEAN), weight.new_tensor(PIXEL_STD)
        return (pixels.to(weight.dtype) / 255 - mean) / std


@cache
def state_shapes(variant: Variant) -> Mapping[str, tuple[int, ...]]:
    """Every tensor's name and shape in a checkpoint of this variant; allocates nothing."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in Relo(variant).state_dict().items()}


def build_network(variant: Variant, weights: Mapping[str, Tensor]) -> Relo:
    """The network in evaluation mode, holding exactly these weights (no copy is made)."""
    with torch.device("meta"):
        network = Relo(variant)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)
