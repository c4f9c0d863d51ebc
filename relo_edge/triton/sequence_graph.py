"""The step graph as Triton runs it: wrapped in a few exact nodes, its own left as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import BATCH, GraphContract, TensorSpec
from relo_edge.errors import MissingDependency
from relo_edge.triton.model_tensors import REWIND, START, list_inputs, list_outputs, list_states

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

__all__ = ["build_sequence_graph"]


def build_sequence_graph(
    path: Path, step: GraphContract, shared: NDArray[np.float32] | None
) -> ModelProto:
    """Wrap a step graph for sequence batching with implicit state.

    Args:
        path: the step graph's file.
        step: its contract.
        shared: what its `shared` input is fed, which becomes a constant.

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
    model = onnx.load(path)
    wrapper = _Wrapper(step)
    for node in model.graph.node:
        wrapper.rename(node)
    wrapper.add_nodes(shared)
    states = list_states(step)
    inputs = [*list_inputs(step), *(state.before for state in states)]
    if states:
        inputs.append(TensorSpec(START, "float32", (BATCH, 1)))
    outputs = [*list_outputs(step), *(state.after for state in states)]
    _replace(model.graph, [*wrapper.before, *model.graph.node, *wrapper.after], inputs, outputs)
    model.graph.initializer.extend(wrapper.list_constants())
    onnx.checker.check_model(model)
    return model


class _Wrapper:
    """The nodes before and after a graph's own, and the names that its own ends get for them."""

    def __init__(self, step: GraphContract) -> None:
        self._step = step
        self._flat = [spec.name for spec in step.outputs if spec.shape == (BATCH,)]
        self._fresh = [spec.name for spec in step.list_inputs("fresh")]
        # The state that is stepped from is also what the next step may go back to.
        self._names = {name: f"sequence/{name}" for name in (*self._flat, *self._fresh)}
        self._names |= {s.before.name: f"{s.before.name}_before_out" for s in step.states}
        self._constants: dict[str, NDArray[Any]] = {}
        self.before: list[NodeProto] = []
        self.after: list[NodeProto] = []

    def rename(self, node: NodeProto) -> None:
        """Have one of the graph's own nodes read and write the inner names."""
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = self._names.get(name, name)

    def add_nodes(self, shared: NDArray[np.float32] | None) -> None:
        """START to what is fresh, REWIND to the choice of states, rows to columns."""
        for spec in self._step.list_inputs("shared"):
            self._constants[spec.name] = np.asarray(shared, spec.dtype)
        for name in self._fresh:
            row = self._add("Reshape", [START, self._store("row", -1)], f"{name}/start")
            one = self._store("one", np.float32(1))
            self._add("Sub", [one, row], self._names[name])
        for state in self._step.states:
            name, rank = state.before.name, len(state.before.shape)
            wide = self._store(f"wide_{rank}", -1, *[1] * (rank - 1))
            rewind = self._add("Reshape", [REWIND, wide], f"{name}/rewind")
            half = self._store("half", np.float32(0.5))
            rewound = self._add("Greater", [rewind, half], f"{name}/rewound")
            self._add("Where", [rewound, f"{name}_before", name], self._names[name])
        for name in self._flat:
            column = self._store("column", -1, 1)
            self._add("Reshape", [self._names[name], column], name, self.after)

    def list_constants(self) -> list[Any]:
        """As initializers."""
        from onnx import numpy_helper

        return [numpy_helper.from_array(value, name) for name, value in self._constants.items()]

    def _store(self, name: str, *values: Any) -> str:
        """A float scalar, or a shape."""
        scalar = isinstance(values[0], np.float32)
        self._constants[f"sequence/{name}"] = np.array(
            values[0] if scalar else values, np.float32 if scalar else np.int64
        )
        return f"sequence/{name}"

    def _add(
        self, kind: str, inputs: list[str], output: str, nodes: list[NodeProto] | None = None
    ) -> str:
        from onnx import helper

        node = helper.make_node(kind, inputs, [output], f"sequence/{kind}_{output}")
        (self.before if nodes is None else nodes).append(node)
        return output


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
