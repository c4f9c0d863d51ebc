"""The building blocks, all on channels-last tokens; parameter names are the release's."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relo_edge.spec import LAYER_NORM_EPSILON, Variant

__all__ = ["MainBlock", "Merge", "PatchConv", "StageBlock", "layer_norm"]


def layer_norm(width: int) -> nn.LayerNorm:
    """Every LayerNorm of RELO has the same epsilon."""
    return nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)


class PatchConv(nn.Conv2d):
    """A convolution whose stride is its kernel: one matrix product on channels-last maps."""

    def __init__(self, inputs: int, outputs: int, side: int) -> None:
        super().__init__(inputs, outputs, side, stride=side)

    def forward(self, maps: Tensor) -> Tensor:
        """[B,H,W,C] → [B,H/side,W/side,outputs]."""
        side = self.kernel_size[0]
        batch, height, width, channels = maps.shape
        if side > 1:
            maps = maps.view(batch, height // side, side, width // side, side, channels)
            maps = maps.transpose(2, 3).flatten(3)
        return F.linear(maps, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)


class StageMlp(nn.Module):
    """The convolutional stages' MLP, with its LayerNorm over the hidden width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = PatchConv(width, 3 * width, 1)
        self.ffn_ln = layer_norm(3 * width)
        self.fc2 = PatchConv(3 * width, width, 1)

    def forward(self, maps: Tensor) -> Tensor:
        hidden: Tensor = self.ffn_ln(F.gelu(self.fc1(maps)))
        return self.fc2(hidden)


class StageBlock(nn.Module):
    """A block of stage 1 or 2: no attention, no layer scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm2 = layer_norm(width)
        self.mlp = StageMlp(width)

    def forward(self, maps: Tensor) -> Tensor:
        """[B,H,W,C] → the same."""
        return maps + self.mlp(self.norm2(maps))


class Merge(nn.Module):
    """Between stages: four neighbours become one token of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = layer_norm(width)
        self.reduction = PatchConv(width, 2 * width, 2)

    def forward(self, maps: Tensor) -> Tensor:
        """[B,H,W,C] → [B,H/2,W/2,2C]."""
        return self.reduction(self.norm(maps))


class Mix(nn.Module):
    """Softmax(q·k)·v by heads; a module without weights, so that hooks reach what goes into it."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B,H,Q,c], [B,H,N,c] and [B,H,N,c] → [B,H,Q,c]."""
        return F.scaled_dot_product_attention(query, key, value)


class Attention(nn.Module):
    """Multi-head attention whose queries may be fewer than its keys."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)
        self.mix = Mix()

    def forward(self, queries: Tensor, context: Tensor) -> Tensor:
        """[B,Q,C] attending to [B,N,C]."""
        query = self._split_heads(F.linear(queries, self.q_proj.weight, self.q_bias))
        key = self._split_heads(self.k_proj(context))
        value = self._split_heads(F.linear(context, self.v_proj.weight, self.v_bias))
        mixed: Tensor = self.mix(query, key, value)
        return self.proj(mixed.transpose(1, 2).flatten(2))

    def _split_heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)


class SwiGlu(nn.Module):
    """The main blocks' MLP, with its LayerNorm over the hidden width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, 3 * width)
        self.w2 = nn.Linear(width, 3 * width)
        self.ffn_ln = layer_norm(3 * width)
        self.w3 = nn.Linear(3 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = F.silu(self.w1(tokens)) * self.w2(tokens)
        return self.w3(self.ffn_ln(hidden))


class MainBlock(nn.Module):
    """A pre-norm block with layer scale; propagated tokens are only ever keys and values."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        width = variant.width
        self.gamma_1 = nn.Parameter(torch.ones(width))
        self.gamma_2 = nn.Parameter(torch.ones(width))
        self.norm1 = layer_norm(width)
        self.attn = Attention(width, variant.heads)
        self.norm2 = layer_norm(width)
        self.mlp = SwiGlu(width)

    def forward(self, tokens: Tensor, propagated: Tensor, wanted: int) -> Tensor:
        """The first `wanted` tokens after this block; the rest only inform them."""
        context = self.norm1(torch.cat([tokens, propagated], dim=1))
        kept = tokens[:, :wanted]
        kept = kept + self.gamma_1 * self.attn(context[:, :wanted], context)
        return kept + self.gamma_2 * self.mlp(self.norm2(kept))
