"""The rules by which TensorRT fuses Q/DQ pairs, and a check of a graph against them.

The rules hold for TensorRT 10.x (strongly typed), 11.x and TensorRT for RTX. A graph that keeps
them is plain ONNX, which onnxruntime and OpenVINO fuse too. `quantize` checks each that it writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["DEQUANTIZE", "OUTPUT_AXIS", "QUANTIZE", "RULES", "find_violations"]

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
OUTPUT_AXIS = {"MatMul": 1, "Conv": 0}
STORED = ("int8", "float8_e4m3fn")
SCALES = (np.float32, np.float16)
"""Float16 in graphs whose unquantized part is half."""


@dataclass(frozen=True)
class _Graph:
    """A model with the producer and the consumers of each tensor."""

    model: ModelProto

    @cached_property
    def constants(self) -> dict[str, TensorProto]:
        return {tensor.name: tensor for tensor in self.model.graph.initializer}

    @cached_property
    def producers(self) -> dict[str, NodeProto]:
        return {name: node for node in self.model.graph.node for name in node.output}

    @cached_property
    def consumers(self) -> dict[str, list[NodeProto]]:
        links: dict[str, list[NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                links.setdefault(name, []).append(node)
        return links

    def list_nodes(self, *ops: str) -> Iterator[NodeProto]:
        return (node for node in self.model.graph.node if node.op_type in ops)

    def read_constant(self, name: str) -> NDArray[Any] | None:
        from onnx import numpy_helper

        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def is_dequantized(self, name: str) -> bool:
        producer = self.producers.get(name)
        return producer is not None and producer.op_type == DEQUANTIZE


Rule = Callable[[_Graph], Iterator[str]]


def check_zero_points(graph: _Graph) -> Iterator[str]:
    """Quantization is symmetric: every zero point is a zero of int8 or E4M3."""
    for node in graph.list_nodes(QUANTIZE, DEQUANTIZE):
        zero = graph.read_constant(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.dtype.name not in STORED or zero.any():
            yield node.name


def check_scales(graph: _Graph) -> Iterator[str]:
    """Scales are constant, finite, positive float32 or float16."""
    for node in graph.list_nodes(QUANTIZE, DEQUANTIZE):
        scale = graph.read_constant(node.input[1])
        sound = scale is not None and scale.dtype in SCALES and np.isfinite(scale).all()
        if not (sound and scale is not None and (scale > 0).all()):
            yield node.name


def check_activations(graph: _Graph) -> Iterator[str]:
    """Activations have one scale per tensor."""
    for node in graph.list_nodes(QUANTIZE):
        scale = graph.read_constant(node.input[1])
        if scale is None or scale.size != 1:
            yield node.name


def check_weights(graph: _Graph) -> Iterator[str]:
    """Weights are stored as int8 or E4M3 with a scale for each output channel."""
    for node in graph.list_nodes(*OUTPUT_AXIS):
        producer = graph.producers.get(node.input[1])
        if producer is None or producer.op_type != DEQUANTIZE:
            continue
        weight = graph.read_constant(producer.input[0])
        if weight is None:
            continue  # two activations: check_activations covers them
        axis = OUTPUT_AXIS[node.op_type]
        given = [a.i for a in producer.attribute if a.name == "axis"]
        scale = graph.read_constant(producer.input[1])
        size = 0 if scale is None else scale.size
        if weight.dtype.name not in STORED or given != [axis] or size != weight.shape[axis]:
            yield node.name


def check_both_sides(graph: _Graph) -> Iterator[str]:
    """A product has both inputs dequantized or neither."""
    for node in graph.list_nodes(*OUTPUT_AXIS):
        if len({graph.is_dequantized(name) for name in node.input[:2]}) != 1:
            yield node.name


def check_biases(graph: _Graph) -> Iterator[str]:
    """A convolution's bias is plain float."""
    for node in graph.list_nodes("Conv"):
        if len(node.input) > 2 and graph.is_dequantized(node.input[2]):
            yield node.name


def check_relu_fusion(graph: _Graph) -> Iterator[str]:
    """Nothing stands between a convolution and its ReLU."""
    for node in graph.list_nodes("Relu"):
        producer = graph.producers.get(node.input[0])
        if producer is not None and producer.op_type == DEQUANTIZE:
            yield node.name


def check_pairs(graph: _Graph) -> Iterator[str]:
    """Each quantized activation is dequantized at once, and only there."""
    outputs = {output.name for output in graph.model.graph.output}
    for node in graph.list_nodes(QUANTIZE):
        users = graph.consumers.get(node.output[0], [])
        alone = bool(users) and all(user.op_type == DEQUANTIZE for user in users)
        if not alone or node.output[0] in outputs:
            yield node.name


def check_consumers(graph: _Graph) -> Iterator[str]:
    """Dequantized tensors feed products only; a pair before anything else gains nothing."""
    outputs = {output.name for output in graph.model.graph.output}
    for node in graph.list_nodes(DEQUANTIZE):
        users = graph.consumers.get(node.output[0], [])
        if node.output[0] in outputs or any(u.op_type not in OUTPUT_AXIS for u in users):
            yield node.name


RULES: tuple[Rule, ...] = (
    check_zero_points,
    check_scales,
    check_activations,
    check_weights,
    check_both_sides,
    check_biases,
    check_relu_fusion,
    check_pairs,
    check_consumers,
)


def find_violations(model: ModelProto) -> list[str]:
    """A line for each violation: the rule and the node."""
    graph = _Graph(model)
    return [
        f"{(rule.__doc__ or '').rstrip('.')}, broken at {node}"
        for rule in RULES
        for node in rule(graph)
    ]
