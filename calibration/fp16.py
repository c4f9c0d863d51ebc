"""The FP16 graph: every node is half or float32, and a Cast stands only where the type changes.

Existing converters were tried on our graphs. onnxruntime.transformers.float16 writes an
invalid model (two kept nodes that read one tensor define its Cast twice) and rounds to half
between kept nodes; onnxconverter-common 1.16 does the latter, returns `box` in half and mistypes
Casts (its issue 320). ModelOpt's AutoCast is good, but pins onnx 1.21 and onnxruntime-gpu 1.24,
pulls in torch and cupy, stores shared constants twice and types all inputs and outputs alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.calibration.bf16_attention import BFLOAT16, SOFTMAX_REASON, list_attentions
from relo_edge.calibration.fp16_ranges import FLOAT, Range, find_floats
from relo_edge.calibration.hazards import find_float32_nodes
from relo_edge.calibration.norms import fold_norms
from relo_edge.contract import describe_graph
from relo_edge.spec import TrackerVariant

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

__all__ = ["Fp16Graph", "convert_fp16"]

HALF = 10  # TensorProto.FLOAT16, without importing onnx for it
DTYPES = {"float32": FLOAT, "float16": HALF}
SUFFIXES = {FLOAT: "float", HALF: "half", BFLOAT16: "bfloat16"}


@dataclass(frozen=True)
class Fp16Graph:
    """A strongly typed graph, and its nodes that are not half."""

    model: ModelProto
    kept: Mapping[str, str]
    """The nodes that stay in float32, and why."""
    state_dtype: str
    """The type of the state at the interface: float16, unless its range forbids it."""


def convert_fp16(
    model: ModelProto,
    variant: TrackerVariant,
    ranges: Mapping[str, Range],
    *,
    bf16_attention: bool = False,
) -> Fp16Graph:
    """Convert a float32 `step` or `template` graph, but for what `find_float32_nodes` keeps.

    A tensor without a range is judged by the known hazards alone. With `bf16_attention`, both
    products of each attention are bfloat16 and its Softmax is float32.
    """
    source = _copy_model(model)
    folded = fold_norms(source)
    ranges = {tensor: seen for tensor, seen in ranges.items() if tensor not in folded}
    floats = find_floats(source)
    kept = find_float32_nodes(source, floats, ranges)
    types = dict.fromkeys(kept, FLOAT)
    if bf16_attention:
        for logits, softmax, mix in list_attentions(source):
            kept.setdefault(softmax, SOFTMAX_REASON)
            types = {logits: BFLOAT16, softmax: FLOAT, mix: BFLOAT16} | types
    states = [s.after.name for s in describe_graph(variant, source.graph.name).states]
    makers = [name for state in states if (name := _name_maker(source, state))]
    state_dtype = "float32" if kept.keys() & makers else "float16"
    if state_dtype == "float32":
        types |= dict.fromkeys(makers, FLOAT)  # all of the state has one type
    inputs = describe_graph(variant, source.graph.name, state_dtype).inputs
    fed = {spec.name: DTYPES[spec.dtype] for spec in inputs if spec.dtype in DTYPES}
    writer = _TypedWriter(source, dict.fromkeys(floats, FLOAT) | fed)
    for node in source.graph.node:
        writer.add(node, types.get(node.name, HALF))
    metadata = {
        "relo_edge.precision": "fp16",
        "relo_edge.state_dtype": state_dtype,
        "relo_edge.kept_in_float32": json.dumps(kept),
    }
    return Fp16Graph(writer.build(metadata), kept, state_dtype)


def _copy_model(model: ModelProto) -> ModelProto:
    from onnx import ModelProto

    copy = ModelProto()
    copy.CopyFrom(model)
    return copy


def _name_maker(model: ModelProto, tensor: str) -> str | None:
    """The node that makes a tensor, if the graph has it."""
    return next((node.name for node in model.graph.node if tensor in node.output), None)


class _TypedWriter:
    """Copies nodes at the type asked for. Tensors keep their names; a Cast's output, or a constant
    in a second type, is called `NAME/half` or `NAME/float`."""

    def __init__(self, source: ModelProto, types: Mapping[str, int]) -> None:
        self._source = source
        self._types = dict(types)
        self._weights = {tensor.name: tensor for tensor in source.graph.initializer}
        self._nodes: list[NodeProto] = []
        self._constants: dict[str, TensorProto] = {}

    def add(self, node: NodeProto, wanted: int) -> None:
        """Append a node whose float inputs and outputs are all of the type wanted."""
        from onnx import NodeProto

        copy = NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._read(tensor, wanted) for tensor in node.input]
        for attribute in copy.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = wanted
        self._types |= {tensor: wanted for tensor in node.output if tensor in self._types}
        self._nodes.append(copy)

    def build(self, metadata: Mapping[str, str]) -> ModelProto:
        """The source with the nodes written so far, and these entries added to its metadata."""
        from onnx import helper

        model, graph = self._source, self._source.graph
        del graph.node[:], graph.initializer[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(self._constants.values())
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.name in self._types:
                value.type.tensor_type.elem_type = self._types[value.name]
        known = {entry.key: entry.value for entry in model.metadata_props}
        helper.set_model_props(model, known | dict(metadata))
        return model

    def _read(self, tensor: str, wanted: int) -> str:
        """The name under which a node of that type reads the tensor."""
        if tensor in self._weights:
            return self._store(self._weights[tensor], wanted)
        if self._types.get(tensor, wanted) == wanted:
            return tensor
        name = f"{tensor}/{SUFFIXES[wanted]}"
        if name not in self._types:
            from onnx import helper

            self._nodes.append(helper.make_node("Cast", [tensor], [name], name, to=wanted))
            self._types[name] = wanted
        return name

    def _store(self, weight: TensorProto, wanted: int) -> str:
        """Keep a constant once in each type in which it is read."""
        from onnx import numpy_helper

        name = weight.name
        if weight.data_type != FLOAT:
            self._constants[name] = weight
            return name
        if name in self._constants and self._constants[name].data_type != wanted:
            name = f"{name}/{SUFFIXES[wanted]}"
        if name not in self._constants:
            values = numpy_helper.to_array(weight)
            dtype = np.float16 if wanted == HALF else np.float32
            self._constants[name] = numpy_helper.from_array(values.astype(dtype), name)
        return name
