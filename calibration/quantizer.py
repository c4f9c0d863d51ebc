"""The INT8 and FP8 graphs: Q/DQ pairs around matrix products and convolutions, placed for TensorRT.

The pairs are plain ONNX, which onnxruntime and OpenVINO fuse too; weights are stored rounded.
onnxruntime's quantizer, whose numbers these are, goes channel by channel in Python and knows no FP8
by thresholds; nvidia-modelopt would add cupy, and its calibration carries no temporal state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from relo_edge.calibration.qdq_rules import DEQUANTIZE, OUTPUT_AXIS, QUANTIZE, find_violations
from relo_edge.errors import CalibrationError, GateError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto

__all__ = ["E4M3", "StoredType", "list_activations", "list_products", "quantize_graph"]


@dataclass(frozen=True)
class StoredType:
    """Eight bits, by ONNX's name, and what a threshold becomes in them."""

    name: str
    largest: float

    @property
    def dtype(self) -> np.dtype[Any]:
        """numpy's type of the same bits."""
        from onnx import TensorProto, helper

        return helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(self.name))

    def find_scale(self, threshold: NDArray[np.float32]) -> NDArray[np.float32]:
        """What one step is worth; 1 where float32 could not hold it."""
        scale = np.abs(threshold).astype(np.float64) / self.largest
        return np.where(scale < np.finfo(np.float32).tiny, 1.0, scale).astype(np.float32)

    def round(self, scaled: NDArray[np.floating[Any]]) -> NDArray[Any]:
        """The nearest numbers of the type, to even where two are as near."""
        dtype = self.dtype
        whole = np.rint(scaled) if np.issubdtype(dtype, np.integer) else scaled
        rounded: NDArray[Any] = np.clip(whole, -self.largest, self.largest).astype(dtype)
        return rounded


INT8 = StoredType("INT8", 127.0)
E4M3 = StoredType("FLOAT8E4M3FN", 448.0)


def list_products(model: ModelProto, *, attention: bool = False) -> list[str]:
    """The matrix products and convolutions to quantize; attention's own two only when asked for."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in OUTPUT_AXIS and (attention or node.input[1] in constants)
    ]


def list_activations(model: ModelProto, products: Iterable[str]) -> list[str]:
    """The tensors whose range the products' Q/DQ pairs need."""
    chosen = set(products)
    constants = {tensor.name for tensor in model.graph.initializer}
    tensors = [
        tensor
        for node in model.graph.node
        if node.name in chosen
        for tensor in node.input[:2]
        if tensor not in constants
    ]
    return list(dict.fromkeys(tensors))


def quantize_graph(
    model: ModelProto,
    products: Iterable[str],
    thresholds: Mapping[str, float],
    stored: StoredType = INT8,
) -> ModelProto:
    """The graph (which is changed) with symmetric pairs around the products; the rest is float32.

    A product's output has no pair: it goes to a bias, a ReLU or a residual in float.
    """
    products = set(products)
    missing = [name for name in list_activations(model, products) if name not in thresholds]
    if missing:
        raise CalibrationError("calibration", found=f"no range of {missing[0]}")
    writer = _PairWriter(model, thresholds, stored)
    for node in list(model.graph.node):
        if node.name in products:
            writer.surround(node)
        writer.nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(writer.nodes)
    _keep_biases_apart(model, products)
    _check_rules(model)
    return model


@dataclass
class _PairWriter:
    """Makes each tensor's pair once, before the first product that reads it."""

    model: ModelProto
    thresholds: Mapping[str, float]
    stored: StoredType
    nodes: list[NodeProto] = field(default_factory=list)
    """The graph's nodes so far, each behind what it reads."""

    def __post_init__(self) -> None:
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}
        self._paired: set[str] = set()

    def surround(self, product: NodeProto) -> None:
        """Give the product dequantized inputs."""
        for place, name in enumerate(product.input[:2]):
            if name not in self._paired:
                self._paired.add(name)
                if name in self._constants:
                    self._store_weight(name, OUTPUT_AXIS[product.op_type])
                else:
                    self._pair_activation(name)
            product.input[place] = f"{name}_{DEQUANTIZE}_Output"

    def _pair_activation(self, name: str) -> None:
        threshold = np.array(self.thresholds[name], np.float32)
        numbers = self._add_numbers(name, self.stored.find_scale(threshold))
        self._add_node(QUANTIZE, name, [name, *numbers])
        self._add_node(DEQUANTIZE, name, [f"{name}_{QUANTIZE}_Output", *numbers])

    def _store_weight(self, name: str, axis: int) -> None:
        from onnx import numpy_helper

        weight = numpy_helper.to_array(self._constants[name])
        others = tuple(i for i in range(weight.ndim) if i != axis)
        largest = np.abs(weight).max(axis=others, keepdims=True)
        scale = self.stored.find_scale(largest)
        self._add_constant(f"{name}_quantized", self.stored.round(weight / scale))
        numbers = self._add_numbers(name, scale.reshape(-1))
        self._add_node(DEQUANTIZE, name, [f"{name}_quantized", *numbers], axis=axis)

    def _add_numbers(self, name: str, scale: NDArray[np.float32]) -> tuple[str, str]:
        """The names of the scale and its zero point, stored."""
        names = f"{name}_scale", f"{name}_zero_point"
        self._add_constant(names[0], scale)
        self._add_constant(names[1], np.zeros(scale.shape, self.stored.dtype))
        return names

    def _add_constant(self, name: str, values: NDArray[Any]) -> None:
        from onnx import numpy_helper

        self.model.graph.initializer.append(numpy_helper.from_array(values, name))

    def _add_node(self, op: str, tensor: str, inputs: list[str], **attributes: Any) -> None:
        from onnx import helper

        name = f"{tensor}_{op}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_Output"], name, **attributes))


def _check_rules(model: ModelProto) -> None:
    """Refuse a Q/DQ graph that TensorRT would reject or not fuse.

    Raises:
        GateError: a rule of `qdq_rules` is broken; a fault of this program.
    """
    violations = find_violations(model)
    if violations:
        raise GateError(f"{model.graph.name} graph breaks a Q/DQ rule: {violations[0]}")


def _keep_biases_apart(model: ModelProto, products: set[str]) -> None:
    """Give the products' biases the shape [1,1,n].

    onnxruntime would fuse a product and a vector bias into a float Gemm before it looks for Q/DQ
    pairs, and compute in float what was quantized: 86 ms a frame in place of 32 for T256.
    """
    from onnx import numpy_helper

    chosen = {node.output[0] for node in model.graph.node if node.name in products}
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != "Add" or node.input[0] not in chosen:
            continue
        bias = numpy_helper.to_array(constants[node.input[1]])
        if bias.ndim == 1:
            node.input[1] += "/row"
            row = numpy_helper.from_array(bias[None, None], node.input[1])
            model.graph.initializer.append(row)
    _drop_unused_constants(model)


def _drop_unused_constants(model: ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
