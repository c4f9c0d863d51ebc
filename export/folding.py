"""Exact folding of trained weights into the constants of a graph, computed in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import PIXEL_CENTRE
from relo_edge.spec import BATCH_NORM_EPSILON

__all__ = [
    "Affine",
    "Scope",
    "centre_pixels",
    "fold_batch_norm",
    "fold_layer_scale",
    "fold_normalisation",
    "fold_repeated",
    "fuse_outputs",
    "fuse_qkv",
    "patch_matrix",
]

Array = NDArray[np.floating[Any]]


class Affine(NamedTuple):
    """A weight and its bias; matrices are [inputs, outputs], convolutions as stored.

    In float64 once folded; what nothing is folded into stays in float32, uncopied.
    """

    weight: Array
    bias: Array


@dataclass(frozen=True)
class Scope:
    """The tensors below one name of a state dict: what is asked for by itself comes in float64."""

    tensors: Mapping[str, NDArray[np.generic]]
    prefix: str = ""

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        return np.asarray(self.stored(name), np.float64)

    def stored(self, name: str) -> NDArray[Any]:
        """A tensor that is not computed with: a copy of a large one would take seconds."""
        return self.tensors[self.prefix + name]

    def below(self, name: str) -> Scope:
        """The tensors below a longer name."""
        return Scope(self.tensors, f"{self.prefix}{name}.")

    def affine(self, name: str) -> Affine:
        """A layer's weight and bias as stored."""
        return Affine(self.stored(f"{name}.weight"), self.stored(f"{name}.bias"))

    def linear(self, name: str) -> Affine:
        """A linear layer as a right-hand matrix."""
        weight, bias = self.affine(name)
        return Affine(weight.T, bias)


def patch_matrix(conv: Affine) -> Affine:
    """A convolution whose stride is its kernel, as a matrix on (row, column, channel) patches."""
    weight, bias = conv
    return Affine(weight.transpose(2, 3, 1, 0).reshape(-1, weight.shape[0]), bias)


def fold_repeated(conv: Affine, channels: int) -> Affine:
    """A convolution that is fed one picture several times over, as one that is fed it once."""
    weight, bias = conv
    outputs, inputs, *kernel = weight.shape
    copies = weight.reshape(outputs, inputs // channels, channels, *kernel)
    return Affine(copies.sum(1, np.float64), bias)


def fold_normalisation(conv: Affine, mean: tuple[float, ...], std: tuple[float, ...]) -> Affine:
    """A convolution of (x/255 - mean)/std as one of raw pixels x; exact as nothing is padded."""
    weight, bias = conv
    channels = (1, len(mean), 1, 1)
    centred = weight / np.reshape(std, channels)
    shift = (centred * np.reshape(mean, channels)).sum(axis=(1, 2, 3))
    return Affine(centred / 255, bias - shift)


def centre_pixels(matrix: Affine) -> Affine:
    """The same product for pixels less 128.

    Exact in float32; in half, TF32 or int8 the rounded weights are no longer multiplied by the
    pixels' mean, and the pixels themselves are exact.
    """
    return Affine(matrix.weight, matrix.bias + PIXEL_CENTRE * matrix.weight.sum(axis=0))


def fold_batch_norm(conv: Affine, norm: Scope) -> Affine:
    """A convolution followed by an evaluated BatchNorm, as one convolution."""
    scale = norm["weight"] / np.sqrt(norm["running_var"] + BATCH_NORM_EPSILON)
    bias = (conv.bias - norm["running_mean"]) * scale + norm["bias"]
    return Affine(conv.weight * scale[:, None, None, None], bias)


def fold_layer_scale(matrix: Affine, gamma: NDArray[np.float64]) -> Affine:
    """gamma · (x W + b) as one matrix product."""
    return Affine(matrix.weight * gamma, matrix.bias * gamma)


def fuse_qkv(attention: Scope, head_size: int) -> Affine:
    """The three projections as one, the attention's scale in the query; keys have no bias."""
    scale = head_size**-0.5
    query, key, value = (attention[f"{name}_proj.weight"].T for name in "qkv")
    q_bias, v_bias = attention["q_bias"], attention["v_bias"]
    return Affine(
        np.concatenate([query * scale, key, value], axis=1),
        np.concatenate([q_bias * scale, np.zeros_like(q_bias), v_bias]),
    )


def fuse_outputs(*layers: Affine, axis: int) -> Affine:
    """Layers that read the same input, as one; `axis` is where the weight has its outputs."""
    return Affine(
        np.concatenate([layer.weight for layer in layers], axis=axis),
        np.concatenate([layer.bias for layer in layers]),
    )
