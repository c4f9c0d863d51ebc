"""The one-stream encoder: search, templates and layer-aligned temporal tokens."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from relo_edge.network.layers import MainBlock, Merge, PatchConv, StageBlock, layer_norm
from relo_edge.spec import Variant

__all__ = ["Encoder", "PixelEncoder", "build_main_blocks", "build_stages", "foreground_share"]


class PatchEmbed(nn.Module):
    """Pixels to the first stage's tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = PatchConv(3, width, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        """[B,H,W,3] → [B,H/4,W/4,width]."""
        return self.proj(pixels)


class PixelEncoder(nn.Module):
    """Crops to tokens and the main blocks: what the families' encoders share.

    Parameters are registered by the encoders themselves, in the order of their checkpoints.
    """

    variant: Variant
    pos_embed: nn.Parameter
    template_background_token: nn.Parameter
    template_foreground_token: nn.Parameter
    search_token: nn.Parameter
    patch_embed: nn.Module
    blocks: nn.ModuleList

    def encode_search(self, pixels: Tensor) -> Tensor:
        """Normalised search crops [B,H,W,3] → tokens [B,grid²,C]."""
        position = self.pos_embed[:, : self.variant.search_tokens]
        return self._encode_pixels(pixels) + position + self.search_token

    def encode_template(self, pixels: Tensor, boxes: Tensor) -> Tensor:
        """Normalised template crops [N,H,W,3] with their boxes [N,4] → tokens [N,·,C]."""
        position = self.pos_embed[:, self.variant.search_tokens :]
        share = foreground_share(boxes, self.variant).unsqueeze(2)
        role = torch.lerp(self.template_background_token, self.template_foreground_token, share)
        return self._encode_pixels(pixels) + position + role

    def _encode_pixels(self, pixels: Tensor) -> Tensor:
        maps = self.patch_embed(pixels)
        for stage in self.blocks[: -self.variant.depth]:
            maps = stage(maps)
        return cast(Tensor, maps.flatten(1, 2))

    def _main_blocks(self) -> nn.ModuleList:
        return self.blocks[-self.variant.depth :]


class Encoder(PixelEncoder):
    """The body of RELO; `blocks` holds stage 1, a merge, stage 2, a merge, and the main blocks."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width, tokens = variant.width, variant.search_tokens + variant.tokens_per_template
        self.variant = variant
        self.ttokens = nn.Parameter(torch.zeros(1, variant.temporal_tokens, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.pos_embed_ttoken = nn.Parameter(torch.zeros(1, variant.temporal_tokens, width))
        self.template_background_token = nn.Parameter(torch.zeros(width))
        self.template_foreground_token = nn.Parameter(torch.zeros(width))
        self.search_token = nn.Parameter(torch.zeros(width))
        self.patch_embed = PatchEmbed(width // 4)
        self.blocks = nn.ModuleList([*build_stages(variant), *build_main_blocks(variant)])
        self.fc_norm = layer_norm(width)

    def forward(
        self, search: Tensor, templates: Tensor, state: Tensor, has_history: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and last frame's state [B,depth,T,C] → final search tokens and the new state."""
        temporal = (self.ttokens + self.pos_embed_ttoken).expand(len(search), -1, -1)
        tokens = torch.cat([search, templates, temporal], dim=1)
        first_temporal = tokens.shape[1] - temporal.shape[1]
        carries = has_history.view(-1, 1, 1) > 0.5
        entries = []
        for index, block in enumerate(self._main_blocks()):
            current = tokens[:, first_temporal:]
            entries.append(current)
            # A first frame propagates a copy of the current tokens: exactly what the release does.
            propagated = torch.where(carries, state[:, index], current)
            last = index == self.variant.depth - 1
            wanted = self.variant.search_tokens if last else tokens.shape[1]
            tokens = block(tokens, propagated, wanted)
        return self.fc_norm(tokens), torch.stack(entries, dim=1)


def foreground_share(boxes: Tensor, variant: Variant) -> Tensor:
    """How much of each template token's patch lies inside the target box: [N,4] → [N,tokens]."""
    size, patch = variant.template_size, variant.patch
    pixels = torch.arange(size, device=boxes.device, dtype=boxes.dtype)
    x, y, width, height = (boxes * size).unsqueeze(2).unbind(1)
    columns = ((pixels >= x) & (pixels < x + width)).unflatten(1, (-1, patch)).sum(2)
    rows = ((pixels >= y) & (pixels < y + height)).unflatten(1, (-1, patch)).sum(2)
    inside = rows.unsqueeze(2) * columns.unsqueeze(1)
    return inside.flatten(1).to(boxes.dtype) / patch**2


def build_stages(variant: Variant) -> list[nn.Module]:
    """The two convolutional stages, a merge after each."""
    first, second = variant.stage_blocks
    quarter, half = variant.width // 4, variant.width // 2
    return [
        *(StageBlock(quarter) for _ in range(first)),
        Merge(quarter),
        *(StageBlock(half) for _ in range(second)),
        Merge(half),
    ]


def build_main_blocks(variant: Variant) -> list[nn.Module]:
    """The blocks with attention."""
    return [MainBlock(variant) for _ in range(variant.depth)]
