"""The convolutional heads: policy, box regression, value."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from relo_edge.spec import BATCH_NORM_EPSILON, SIZE_FLOOR, Variant

__all__ = ["BoxDecoder", "PolicyHead", "ValueHead", "choose_boxes"]


class ConvTower(nn.Module):
    """Up to three towers of four 3x3 convolutions, told apart by a suffix as in the release."""

    def __init__(self, variant: Variant, suffixes: tuple[str, ...]) -> None:
        super().__init__()
        widths = [variant.width, *(variant.head_channels >> level for level in range(4))]
        for suffix in suffixes:
            for level in range(4):
                block = _build_conv_block(widths[level], widths[level + 1])
                self.add_module(f"conv{level + 1}_{suffix}", block)
        self.output_width = widths[-1]

    def _climb(self, features: Tensor, suffix: str) -> Tensor:
        for level in range(4):
            features = self.get_submodule(f"conv{level + 1}_{suffix}")(features)
        return features


class PolicyHead(ConvTower):
    """One logit a cell: where to look for the target's box."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant, ("ctr",))
        self.conv5_ctr = nn.Conv2d(self.output_width, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B,C,G,G] → [B,G,G]."""
        logits: Tensor = self.conv5_ctr(self._climb(features, "ctr"))
        return logits.squeeze(1)


class BoxDecoder(ConvTower):
    """A box at every cell, and a centre branch that RELO's inference does not use."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant, ("ctr", "offset", "size"))
        self.conv5_ctr = nn.Conv2d(self.output_width, 1, 1)
        self.conv5_offset = nn.Conv2d(self.output_width, 2, 1)
        self.conv5_size = nn.Conv2d(self.output_width, 2, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """[B,C,G,G] → sizes and offsets, [B,2,G,G] each."""
        sizes = torch.sigmoid(self.conv5_size(self._climb(features, "size")))
        offsets: Tensor = self.conv5_offset(self._climb(features, "offset"))
        return sizes.clamp(SIZE_FLOOR, 1 - SIZE_FLOOR), offsets

    def map_centres(self, features: Tensor) -> Tensor:
        """[B,C,G,G] → one logit a cell [B,G,G]; only families without a policy head use it."""
        logits: Tensor = self.conv5_ctr(self._climb(features, "ctr"))
        return logits.squeeze(1)


class ValueHead(ConvTower):
    """The expected reward of a frame: the baseline that reinforcement learning needs."""

    def __init__(self, variant: Variant) -> None:
        super().__init__(variant, ("val",))
        self.fc_val = nn.Linear(self.output_width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """[B,C,G,G] → [B]."""
        pooled = self._climb(features, "val").mean(dim=(2, 3))
        value: Tensor = self.fc_val(pooled)
        return value.squeeze(1)


def choose_boxes(
    scores: Tensor, sizes: Tensor, offsets: Tensor, window: Tensor
) -> tuple[Tensor, Tensor]:
    """The box [B,4] of the cell with the greatest windowed score, and that score [B]."""
    grid = scores.shape[-1]
    best, cells = (scores * window).flatten(1).max(dim=1)
    picked = cells.view(-1, 1, 1).expand(-1, 2, 1)
    chosen_sizes = sizes.flatten(2).gather(2, picked).squeeze(2)
    chosen_offsets = offsets.flatten(2).gather(2, picked).squeeze(2)
    corners = torch.stack([cells % grid, cells // grid], dim=1)
    return torch.cat([(corners + chosen_offsets) / grid, chosen_sizes], dim=1), best


def _build_conv_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs, eps=BATCH_NORM_EPSILON),
        nn.ReLU(),
    )
