"""CLIP's text tower, as far as SUTrack needs it: token ids to one feature a sentence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CLIP_CONTEXT", "ClipText"]

CLIP_CONTEXT = 77
"""Token ids of a sentence, padded with zeros."""

WIDTH = 768
HEADS = 12
DEPTH = 12
VOCABULARY = 49408
EPSILON = 1e-5


class _SelfAttention(nn.Module):
    """Causal multi-head attention; the three projections are stored as one, as CLIP does."""

    def __init__(self) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * WIDTH, WIDTH))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * WIDTH))
        self.out_proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        fused = F.linear(tokens, self.in_proj_weight, self.in_proj_bias)
        query, key, value = (
            part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in fused.chunk(3, dim=2)
        )
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        projected: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return projected


class _QuickMlp(nn.Module):
    """The MLP with CLIP's own approximation of GELU."""

    def __init__(self) -> None:
        super().__init__()
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.c_proj = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.c_fc(tokens)
        projected: Tensor = self.c_proj(hidden * torch.sigmoid(1.702 * hidden))
        return projected


class _TextBlock(nn.Module):
    """A pre-norm block."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.attn = _SelfAttention()
        self.ln_2 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.mlp = _QuickMlp()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.ln_1(tokens))
        return tokens + self.mlp(self.ln_2(tokens))


class _Transformer(nn.Module):
    """The release keeps the blocks one level down."""

    def __init__(self) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(_TextBlock() for _ in range(DEPTH))


class ClipText(nn.Module):
    """Sentences to features; parameter names are OpenAI CLIP's."""

    def __init__(self) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.zeros(CLIP_CONTEXT, WIDTH))
        self.text_projection = nn.Parameter(torch.zeros(WIDTH, WIDTH))
        self.logit_scale = nn.Parameter(torch.zeros(()))  # of CLIP's loss; no inference uses it
        self.transformer = _Transformer()
        self.token_embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.ln_final = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [N,77] → features [N,768], read at each sentence's highest id: its end."""
        tokens = self.token_embedding(ids) + self.positional_embedding
        for block in self.transformer.resblocks:
            tokens = block(tokens)
        ends = self.ln_final(tokens[torch.arange(len(ids)), ids.argmax(dim=1)])
        feature: Tensor = ends @ self.text_projection
        return feature
