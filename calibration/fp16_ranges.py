"""The range of each tensor of a float graph over real samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError
from relo_edge.graphs.sessions import open_session

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["Range", "find_floats", "measure_ranges"]

FLOAT = 1  # TensorProto.FLOAT, without importing onnx for it
LAST_AXIS = "probe/last_axis"


@dataclass(frozen=True)
class Range:
    """The range of one float tensor over all samples."""

    largest: float
    """The largest magnitude."""
    rms: float
    """The root of the mean square."""
    row_square: float | None = None
    """Where a LayerNormalization reads the tensor: the largest mean of squares of one row."""


def measure_ranges(
    model_path: str | Path,
    samples: Iterable[Mapping[str, NDArray[Any]]],
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Range]:
    """Run the float graph on each sample (its feeds); memory does not grow with their number.

    The tensors are reduced to a few numbers inside the graph, so none of them is ever held: all
    activations of L256 would take gigabytes. A first frame's ignored state should be zeros, as it
    is measured like any other input.
    """
    import onnx

    model = onnx.load(model_path)
    probes = _add_probes(model)
    session, count = open_session(model, plan_memory=False, fuse_qdq=False), 0
    largest: NDArray[np.float64] = np.zeros(len(probes))
    total: NDArray[np.float64] = np.zeros(len(probes))
    for feeds in samples:
        values = np.array(session.run(list(probes), dict(feeds)), np.float64)
        largest, total, count = np.maximum(largest, values), total + values, count + 1
        advance()
    if not count:
        raise InputError("ranges", found="no sample", expected="one sample or more")
    return _collect_ranges(probes, largest, total / count)


def find_floats(model: ModelProto) -> list[str]:
    """The float32 tensors that are fed or computed, in the graph's order."""
    from onnx import helper, shape_inference

    source, weights = model.graph, {tensor.name: tensor for tensor in model.graph.initializer}
    # Inference copies the model: weights become inputs, which have no content to copy.
    light = helper.make_graph(source.node, source.name, source.input, source.output)
    light.value_info.extend(source.value_info)
    for name, tensor in weights.items():
        if tensor.data_type == FLOAT:
            light.input.append(helper.make_tensor_value_info(name, FLOAT, tensor.dims))
        else:
            light.initializer.append(tensor)
    whole = helper.make_model(light, opset_imports=model.opset_import)
    graph = shape_inference.infer_shapes(whole, strict_mode=True, data_prop=True).graph
    values = [*graph.input, *graph.value_info, *graph.output]
    floats = [value.name for value in values if value.type.tensor_type.elem_type == FLOAT]
    return [name for name in floats if name not in weights]


def _add_probes(model: ModelProto) -> dict[str, tuple[str, str]]:
    """Replace the outputs by scalars; each one's name → the tensor and what is measured of it."""
    from onnx import helper, numpy_helper

    graph, probes = model.graph, dict[str, tuple[str, str]]()
    normalised = {node.input[0] for node in graph.node if node.op_type == "LayerNormalization"}
    floats = find_floats(model)
    graph.initializer.append(numpy_helper.from_array(np.array([-1]), LAST_AXIS))
    for tensor in floats:
        square, rows = f"probe/square/{tensor}", f"probe/rows/{tensor}"
        graph.node.append(helper.make_node("Mul", [tensor, tensor], [square]))
        reductions = [("largest", "ReduceMax", square), ("rms", "ReduceMean", square)]
        if tensor in normalised:
            graph.node.append(helper.make_node("ReduceMean", [square, LAST_AXIS], [rows]))
            reductions.append(("row_square", "ReduceMax", rows))
        for kind, op, source in reductions:
            probe = f"probe/{kind}/{tensor}"
            graph.node.append(helper.make_node(op, [source], [probe], keepdims=0))
            probes[probe] = (tensor, kind)
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(probe, FLOAT, []) for probe in probes)
    return probes


def _collect_ranges(
    probes: Mapping[str, tuple[str, str]],
    largest: NDArray[np.float64],
    mean: NDArray[np.float64],
) -> dict[str, Range]:
    """From squares to magnitudes."""
    found: dict[str, dict[str, float]] = {}
    for (tensor, kind), high, middle in zip(probes.values(), largest, mean, strict=True):
        values = {"largest": high**0.5, "rms": middle**0.5, "row_square": high}
        found.setdefault(tensor, {})[kind] = float(values[kind])
    return {tensor: Range(**values) for tensor, values in found.items()}
