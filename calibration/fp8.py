"""FP8 (E4M3): the Q/DQ pairs of an INT8 graph, with eight-bit floats between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from relo_edge.calibration.qdq_rules import OUTPUT_AXIS
from relo_edge.calibration.quantizer import check_rules, list_products, quantize_graph
from relo_edge.contract import PIXELS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto

__all__ = ["list_fp8_products", "quantize_fp8_graph"]

LARGEST_FP8 = 448.0
LARGEST_INT8 = 127.0


def list_fp8_products(model: ModelProto, *, attention: bool = False) -> list[str]:
    """As for INT8, without the product that reads the pixels.

    E4M3 has three bits of mantissa: of whole numbers, it holds those up to 16 alone exactly.
    """
    readers = {node.name for node in model.graph.node if PIXELS in node.input}
    return [name for name in list_products(model, attention=attention) if name not in readers]


def quantize_fp8_graph(
    model: ModelProto, products: Iterable[str], thresholds: Mapping[str, float]
) -> ModelProto:
    """The graph (which is changed) with E4M3 around the products; a threshold becomes 448."""
    from onnx import numpy_helper

    products = list(products)
    axes = _find_weight_axes(model, products)
    weights = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float32)
        for tensor in model.graph.initializer
        if tensor.name in axes
    }
    quantized = quantize_graph(model, products, thresholds)
    constants = {tensor.name: tensor for tensor in quantized.graph.initializer}
    nodes = [n for n in quantized.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    for name in {node.input[1] for node in nodes}:
        scale = numpy_helper.to_array(constants[name]) * np.float32(LARGEST_INT8 / LARGEST_FP8)
        constants[name].CopyFrom(numpy_helper.from_array(scale.astype(np.float32), name))
    for name in {node.input[2] for node in nodes}:
        zero = np.zeros(constants[name].dims, _fp8_dtype())
        constants[name].CopyFrom(numpy_helper.from_array(zero, name))
    for node in nodes:
        stored = node.input[0]
        if stored in constants:
            scale = numpy_helper.to_array(constants[node.input[1]])
            source = stored.removesuffix("_quantized")
            rounded = _round_weight(weights[source], scale, axes[source])
            constants[stored].CopyFrom(numpy_helper.from_array(rounded, stored))
    check_rules(quantized)
    return quantized


def _find_weight_axes(model: ModelProto, products: Iterable[str]) -> dict[str, int]:
    """The constants that the products multiply by, and where their output channels are."""
    chosen = set(products)
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        node.input[1]: OUTPUT_AXIS[node.op_type]
        for node in model.graph.node
        if node.name in chosen and node.input[1] in constants
    }


def _round_weight(weight: NDArray[Any], scale: NDArray[Any], axis: int) -> NDArray[Any]:
    channels = [1] * weight.ndim
    channels[axis] = -1
    scaled = np.clip(weight / scale.reshape(channels), -LARGEST_FP8, LARGEST_FP8)
    rounded: NDArray[Any] = scaled.astype(_fp8_dtype())
    return rounded


def _fp8_dtype() -> np.dtype[Any]:
    from onnx import TensorProto, helper

    return helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
