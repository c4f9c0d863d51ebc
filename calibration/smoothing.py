"""Outlier channels of a LayerNormalization, moved into the weights that read it, as in SmoothQuant.

An int8 activation has one scale, so that a channel ten times larger than the rest costs the rest
their resolution. Dividing the norm's channels and multiplying the weights' rows by the same factors
changes nothing in float32, and spreads the quantization error over both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.calibration.norms import Constants, find_products
from relo_edge.geometry import Floats

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["list_norms", "smooth_norms"]

SHARE = 0.5
"""The share of an outlier that moves into the weights."""
FLOOR = 1e-5


def list_norms(model: ModelProto) -> list[str]:
    """The outputs of the norms that can be smoothed."""
    return [norm.output[0] for norm, _, _ in find_products(model.graph, Constants(model.graph))]


def smooth_norms(model: ModelProto, peaks: Mapping[str, Floats]) -> dict[str, Floats]:
    """Smooth in place, by the channels' peaks; returns the factors that would undo it."""
    constants, applied = Constants(model.graph), {}
    for norm, product, _ in list(find_products(model.graph, constants)):
        weight = constants.read(product.input[1])
        channels = len(peaks[norm.output[0]])
        # A reshape between them may have put several tokens into one row.
        rows = weight.reshape(-1, channels, weight.shape[1])
        factors = _balance(peaks[norm.output[0]], np.abs(rows).max(axis=(0, 2)))
        smoothed = (rows * factors[:, None]).reshape(weight.shape)
        product.input[1] = constants.store(f"{product.name}/smoothed", smoothed)
        for index, part in ((1, "scale"), (2, "shift")):
            values = constants.read(norm.input[index]) / factors
            norm.input[index] = constants.store(f"{norm.name}/smoothed_{part}", values)
        applied[norm.output[0]] = factors
    return applied


def _balance(peaks: Floats, weight: Floats) -> Floats:
    """The factor of each channel; their geometric mean is one."""
    ratio = np.maximum(peaks, FLOOR) ** SHARE / np.maximum(weight, FLOOR) ** (1 - SHARE)
    balanced: Floats = ratio / np.exp(np.log(ratio).mean())
    return balanced
