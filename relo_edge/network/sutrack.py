"""SUTrack for RGB: a frame in, centre map and boxes out; no state is carried."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from relo_edge.network.clip_text import CLIP_CONTEXT, ClipText
from relo_edge.network.encoder import PixelEncoder, build_main_blocks, build_stages
from relo_edge.network.heads import BoxDecoder
from relo_edge.network.layers import PatchConv, layer_norm
from relo_edge.spec import PIXEL_MEAN, PIXEL_STD, SIZE_FLOOR, Variant

__all__ = ["CentreMaps", "SuTrack", "build_sutrack", "sutrack_shapes"]


class CentreMaps(NamedTuple):
    """What the head says of one frame, batched."""

    scores: Tensor
    """[B,G,G] how likely each cell holds the target's centre, before the window."""
    sizes: Tensor
    """[B,2,G,G] width and height relative to the search crop."""
    offsets: Tensor
    """[B,2,G,G] x and y within the cell."""


class _PatchEmbed(nn.Module):
    """Pixels to the first stage's tokens; the second three channels are a second modality's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = PatchConv(6, width, 4)

    def forward(self, pixels: Tensor) -> Tensor:
        """RGB [B,H,W,3] → [B,H/4,W/4,width]; RGB alone stands for both modalities."""
        return self.proj(torch.cat([pixels, pixels], dim=3))


class SuTrackEncoder(PixelEncoder):
    """The one-stream encoder: search, templates, a class token and a text token."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width, tokens = variant.width, variant.search_tokens + variant.tokens_per_template
        self.variant = variant
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, width))
        self.template_background_token = nn.Parameter(torch.zeros(width))
        self.template_foreground_token = nn.Parameter(torch.zeros(width))
        self.search_token = nn.Parameter(torch.zeros(width))
        self.patch_embed = _PatchEmbed(width // 4)
        self.blocks = nn.ModuleList([*build_stages(variant), *build_main_blocks(variant)])
        self.fc_norm = layer_norm(width)

    def forward(self, search: Tensor, templates: Tensor, text: Tensor) -> Tensor:
        """Search tokens, templates' tokens and the text token [B,1,C] → final search tokens.

        Attention does not know the order of tokens: the search tokens stand first, so that the
        last block computes nothing else.
        """
        batch = len(search)
        constants = (self.cls_token.expand(batch, -1, -1), text.expand(batch, -1, -1))
        tokens = torch.cat([search, templates, *constants], dim=1)
        nothing = tokens[:, :0]
        for index, block in enumerate(self._main_blocks(), start=1):
            last = index == self.variant.depth
            wanted = self.variant.search_tokens if last else tokens.shape[1]
            tokens = block(tokens, nothing, wanted)
        normed: Tensor = self.fc_norm(tokens)
        return normed


class _EncoderHolder(nn.Module):
    """The release keeps its encoder one level down."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.body = SuTrackEncoder(variant)


class TextEncoder(nn.Module):
    """A sentence to one token of the encoder; no inference uses `norm1` and `norm2`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.clip = ClipText()
        self.norm1 = nn.LayerNorm(768)
        self.text_proj = nn.Linear(768, width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [N,77] → [N,1,C]."""
        token: Tensor = self.text_proj(self.clip(ids))
        return token.unsqueeze(1)


class SuTrack(nn.Module):
    """SUTrack; a released state dict without its unused parts loads strictly."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.variant = variant
        self.encoder = _EncoderHolder(variant)
        self.text_encoder = TextEncoder(variant.width)
        self.decoder = BoxDecoder(variant)

    def encode_template(self, templates: Tensor, boxes: Tensor) -> Tensor:
        """RGB uint8 crops [N,H,W,3] and normalised x,y,w,h boxes [N,4] → tokens [N,·,C]."""
        return self.encoder.body.encode_template(self._normalise(templates), boxes)

    def encode_words(self, ids: Tensor | None = None) -> Tensor:
        """CLIP token ids [1,77] → the text token [1,1,C]; without words all ids are 0."""
        if ids is None:
            device = self.encoder.body.cls_token.device
            ids = torch.zeros(1, CLIP_CONTEXT, dtype=torch.int64, device=device)
        token: Tensor = self.text_encoder(ids)
        return token

    def forward(self, search: Tensor, template_tokens: Tensor, text_token: Tensor) -> CentreMaps:
        """One frame of B targets: RGB uint8 crops [B,H,W,3] → maps."""
        body, grid = self.encoder.body, self.variant.grid
        encoded = body.encode_search(self._normalise(search))
        tokens = body(encoded, template_tokens, text_token)
        features = tokens.transpose(1, 2).unflatten(2, (grid, grid))
        sizes, offsets = self.decoder(features)
        scores = torch.sigmoid(self.decoder.map_centres(features))
        return CentreMaps(scores.clamp(SIZE_FLOOR, 1 - SIZE_FLOOR), sizes, offsets)

    def _normalise(self, pixels: Tensor) -> Tensor:
        weight = self.encoder.body.cls_token
        mean, std = weight.new_tensor(PIXEL_MEAN), weight.new_tensor(PIXEL_STD)
        return (pixels.to(weight.dtype) / 255 - mean) / std


@cache
def sutrack_shapes(variant: Variant) -> Mapping[str, tuple[int, ...]]:
    """Every used tensor's name and shape in a checkpoint of this variant; allocates nothing."""
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in SuTrack(variant).state_dict().items()}


def build_sutrack(variant: Variant, weights: Mapping[str, Tensor]) -> SuTrack:
    """The network in evaluation mode, holding exactly these weights (no copy is made)."""
    with torch.device("meta"):
        network = SuTrack(variant)
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)
