"""The step graph as Triton runs it: wrapped in a few exact nodes, its own left as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import BATCH, TensorSpec
from relo_edge.errors import MissingDependency
from relo_edge.spec import Variant
from relo_edge.triton.model_tensors import (
    HISTORY,
    REWIND,
    SCORE,
    START,
    STATE,
    WINDOW,
    list_inputs,
    list_outputs,
    list_states,
)

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

__all__ = ["build_sequence_graph"]

BEFORE = f"{STATE}_before"


def build_sequence_graph(
    step: Path, variant: Variant, state_dtype: str, window: NDArray[np.float32]
) -> ModelProto:
    """Wrap a step graph for sequence batching with implicit state.

    Args:
        step: the step graph's file.
        variant: what it is of.
        state_dtype: the type in which it carries the state.
        window: the weight of each cell, which becomes a constant.

    Returns:
        The model; `list_inputs`, `list_outputs` and `list_states` name its tensors.

    Raises:
        MissingDependency: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(
            "onnx does not import", found=error, fix="`pip install 'relo-edge[export]'`"
        ) from None
    model = onnx.load(step)
    graph = model.graph
    # The state that is stepped from is also what the next step may go back to.
    renamed = {name: f"sequence/{name}" for name in (HISTORY, SCORE)} | {STATE: f"{BEFORE}_out"}
    for node in graph.node:
        _rename(node, renamed)
    before, after, constants = _make_nodes(renamed, window)
    nodes = [*before, *graph.node, *after]
    states = list_states(variant, state_dtype)
    inputs = [*list_inputs(variant), TensorSpec(START, "float32", (BATCH, 1)), *states]
    outputs = list_outputs(variant)
    outputs += [TensorSpec(f"{spec.name}_out", spec.dtype, spec.shape) for spec in states]
    _replace(graph, nodes, inputs, outputs)
    graph.initializer.extend(constants)
    onnx.checker.check_model(model)
    return model


def _rename(node: NodeProto, names: dict[str, str]) -> None:
    for tensors in (node.input, node.output):
        for index, name in enumerate(tensors):
            tensors[index] = names.get(name, name)


def _make_nodes(
    names: dict[str, str], window: NDArray[np.float32]
) -> tuple[list[NodeProto], list[NodeProto], list[object]]:
    """Nodes before and after the step graph's own, and their constants."""
    from onnx import helper, numpy_helper

    constants: dict[str, NDArray[Any]] = {
        WINDOW: np.ascontiguousarray(window, np.float32),
        "sequence/half": np.array(0.5, np.float32),
        "sequence/one": np.array(1, np.float32),
        "sequence/row": np.array([-1], np.int64),
        "sequence/column": np.array([-1, 1], np.int64),
        "sequence/wide": np.array([-1, 1, 1, 1], np.int64),
    }
    make = helper.make_node
    before = [
        make("Reshape", [START, "sequence/row"], ["sequence/start"]),
        make("Sub", ["sequence/one", "sequence/start"], [names[HISTORY]]),
        make("Reshape", [REWIND, "sequence/wide"], ["sequence/rewind"]),
        make("Greater", ["sequence/rewind", "sequence/half"], ["sequence/rewound"]),
        make("Where", ["sequence/rewound", BEFORE, STATE], [names[STATE]]),
    ]
    after = [make("Reshape", [names[SCORE], "sequence/column"], [SCORE])]
    for node in (*before, *after):
        node.name = f"sequence/{node.op_type}_{node.output[0]}"
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    return before, after, list(stored)


def _replace(
    graph: GraphProto,
    nodes: list[NodeProto],
    inputs: list[TensorSpec],
    outputs: list[TensorSpec],
) -> None:
    """Put the wrapped nodes and their ends in place of the graph's own."""
    for part, content in (
        (graph.node, nodes),
        (graph.input, [_describe(spec) for spec in inputs]),
        (graph.output, [_describe(spec) for spec in outputs]),
    ):
        del part[:]
        part.extend(content)
    ends = {spec.name for spec in (*inputs, *outputs)}
    kept = [value for value in graph.value_info if value.name not in ends]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _describe(spec: TensorSpec) -> ValueInfoProto:
    from onnx import helper

    element = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    return helper.make_tensor_value_info(spec.name, element, list(spec.shape))
