"""Untrained weights from a fixed recipe: the same numbers everywhere."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    from relo_edge.spec import TrackerVariant

__all__ = ["draw_tensor", "draw_weights"]

_EMBEDDINGS = ("pos_embed", "pos_embed_ttoken", "ttokens")
# Sizes start near a quarter of the crop and cells near their centre, so that boxes stay sane.
_BOX_SCALES = {
    "conv5_size.weight": (0.08, 0.0),
    "conv5_size.bias": (0.3, -1.1),
    "conv5_offset.weight": (0.3, 0.0),
}


def draw_weights(variant: TrackerVariant, salt: int = 1) -> Mapping[str, Tensor]:
    """A full state dict for the variant."""
    import torch

    from relo_edge.families.registry import find_family

    shapes = find_family(variant.family).list_shapes(variant)
    return {name: torch.from_numpy(draw_tensor(name, s, salt)) for name, s in shapes.items()}


def draw_tensor(name: str, shape: tuple[int, ...], salt: int = 1) -> NDArray[np.generic]:
    """The tensor of that name; NumPy never changes its legacy stream, so neither does this."""
    kind = name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    seed = (zlib.crc32(name.encode()) ^ (salt * 0x9E3779B1)) & 0xFFFFFFFF
    noise = np.random.RandomState(seed).standard_normal(shape)
    value = _scale_noise(kind, shape, noise)
    for ending, (scale, shift) in _BOX_SCALES.items():
        if name.endswith(ending):
            value = scale * value + shift
    return np.asarray(value, np.float32).reshape(shape)


def _scale_noise(
    kind: str, shape: tuple[int, ...], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    if kind == "running_var":
        return 0.75 + 0.5 * np.abs(noise)
    if kind in ("gamma_1", "gamma_2"):
        return 0.5 + 0.1 * noise
    if kind in _EMBEDDINGS or kind.endswith("_token"):
        return 0.2 * noise
    if kind in ("running_mean", "bias", "q_bias", "v_bias"):
        return 0.1 * noise
    if kind == "weight" and len(shape) == 1:
        return 1 + 0.1 * noise
    noise *= 1.4  # in place: hundreds of millions of them in the largest variant
    noise /= float(np.sqrt(np.prod(shape[1:], dtype=int)))
    return noise
