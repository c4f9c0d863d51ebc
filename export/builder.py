"""A small builder of ONNX graphs: nodes named after the network, no weight stored twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import GraphContract, TensorSpec

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["FLOAT", "OPSET", "GraphBuilder"]

# Native LayerNormalization came with opset 17 and native Gelu with 20; TensorRT 10.3 (JetPack 6)
# parses up to 20. IR version 9 is the one that came with opset 20.
OPSET = 20
IR_VERSION = 9
FLOAT = 1  # TensorProto.FLOAT, without importing onnx for it
STRIP = 64
"""Columns of a transposed matrix that are copied at once, so that caches hold them."""


class GraphBuilder:
    """Collects nodes and constants; every tensor is named after the node that makes it."""

    def __init__(self, name: str) -> None:
        from onnx import ModelProto

        self.name = name
        self._model: ModelProto = ModelProto()  # weights can be gigabytes: written there at once
        self._nodes: list[NodeProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._described: list[TensorSpec] = []

    def add(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node with one output, which has the node's name."""
        return self.add_many(op, name, inputs, [name], **attributes)[0]

    def add_many(
        self, op: str, name: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> list[str]:
        """Append a node with several outputs."""
        from onnx import helper

        self._nodes.append(helper.make_node(op, inputs, outputs, name, **attributes))
        return list(outputs)

    def weight(self, name: str, values: NDArray[np.generic]) -> str:
        """A float32 constant, of rank 1 at least."""
        return self._store(name, np.atleast_1d(np.asarray(values, np.float32)))

    def indices(self, *values: int) -> str:
        """An int64 vector, shared by all nodes that need the same one."""
        return self._store("indices_" + "_".join(map(str, values)), np.array(values, np.int64))

    def index(self, value: int) -> str:
        """An int64 scalar."""
        return self._store(f"index_{value}", np.array(value, np.int64))

    def reshape(self, name: str, tensor: str, *shape: int) -> str:
        """Reshape; -1 is inferred."""
        return self.add("Reshape", name, [tensor, self.indices(*shape)])

    def slice_rows(self, name: str, tensor: str, start: int, stop: int, axis: int = 1) -> str:
        """The rows from `start` up to `stop` of one axis."""
        bounds = [self.indices(start), self.indices(stop), self.indices(axis)]
        return self.add("Slice", name, [tensor, *bounds])

    def describe(self, tensor: str, dtype: str, shape: tuple[int | str, ...]) -> None:
        """Declare a shape that shape inference does not find."""
        self._described.append(TensorSpec(tensor, dtype, shape))

    def build(self, contract: GraphContract, metadata: Mapping[str, str]) -> ModelProto:
        """The finished model; its inputs and outputs are those of the contract."""
        from onnx import helper

        graph = helper.make_graph(
            self._nodes,
            self.name,
            [_make_value_info(spec) for spec in contract.inputs],
            [_make_value_info(spec) for spec in contract.outputs],
            value_info=[_make_value_info(spec) for spec in self._described],
        )
        model = self._model
        model.graph.MergeFrom(graph)
        model.opset_import.append(helper.make_opsetid("", OPSET))
        model.ir_version, model.producer_name = IR_VERSION, "relo-edge"
        helper.set_model_props(model, dict(metadata))
        return model

    def _store(self, name: str, values: NDArray[np.generic]) -> str:
        from onnx import helper

        content = _lay_out(values).tobytes()
        key = (values.dtype.str, values.shape, sha256(content).digest())
        if key not in self._known:
            self._known[key] = name
            element = helper.np_dtype_to_tensor_dtype(values.dtype)
            self._model.graph.initializer.add(
                name=name, data_type=element, dims=values.shape, raw_data=content
            )
        return self._known[key]


def _lay_out(values: NDArray[np.generic]) -> NDArray[np.generic]:
    """In C order; numpy by itself copies a large transposed matrix five times as slowly."""
    if values.ndim != 2 or values.flags.c_contiguous:
        return values
    rows = np.empty(values.shape, values.dtype)
    for start in range(0, values.shape[1], STRIP):
        rows[:, start : start + STRIP] = values[:, start : start + STRIP]
    return rows


def _make_value_info(spec: TensorSpec) -> Any:
    from onnx import helper

    element = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, element, list(spec.shape))
