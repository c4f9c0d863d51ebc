"""DRLT's one graph: a whole frame and the LSTM's last state → a box and the new state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.contract import BATCH, PIXEL_CENTRE, PIXELS, STEP, describe_graph
from relo_edge.export.blocks import add_affine
from relo_edge.export.builder import FLOAT, GraphBuilder
from relo_edge.export.folding import Affine, Scope
from relo_edge.network.drlt_sizes import BOX, DrltVariant

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["BUILDERS", "build_step_graph"]

LEAK = 0.1
GATES = ("input", "forget", "cell", "output")
"""In PyTorch's order."""


def build_step_graph(variant: DrltVariant, weights: Scope) -> ModelProto:
    """Rows are [B,1,n]: products of rank 3 are those that INT8 keeps fused."""
    graph, observation = GraphBuilder(STEP), weights.below("observation")
    features = _add_features(graph, variant, observation)
    half = graph.weight("history/half", np.array(0.5))
    known = graph.add("Greater", "history/known", ["has_history", half])
    known = graph.add("Unsqueeze", "history/carries", [known, graph.indices(1)])
    observed = _add_joined(graph, variant, observation, features, known)
    past, cell = (_add_past(graph, name, known) for name in ("h", "c"))
    _add_lstm(graph, variant, weights.below("recurrent"), observed, past, cell)
    first, last = variant.hidden - BOX, variant.hidden
    graph.slice_rows("box", "h_out", first, last)
    origin = {
        "relo_edge.graph": STEP,
        "relo_edge.variant": variant.name,
        "relo_edge.spec": json.dumps(variant.to_dict()),
        "relo_edge.pixels": "the whole frame, RGB uint8, normalised inside the graph",
        "relo_edge.state": "h_out and c_out of one frame are h and c of the next; with "
        "has_history 0 they are ignored, and the location is seen in their place",
    }
    return graph.build(describe_graph(variant, STEP), origin)


def _add_features(graph: GraphBuilder, variant: DrltVariant, weights: Scope) -> str:
    """The detector up to its first fully connected layer: [B,1,features]."""
    side = variant.frame_size
    # TensorRT takes uint8 as an input only: nothing but a Cast may read it.
    levels = graph.add("Cast", "pixels/float", ["frame"], to=FLOAT)
    maps = graph.add("Transpose", "pixels/channels", [levels], perm=[0, 3, 1, 2])
    graph.describe(maps, "float32", (BATCH, 3, side, side))
    centre = graph.weight("pixels/centre", np.array(PIXEL_CENTRE))
    values = graph.add("Sub", PIXELS, [maps, centre])
    for index, layer in enumerate(variant.convolutions):
        name, conv = f"conv{index}", weights.affine(f"convolutions.{index}")
        if index == 0:
            conv = Affine(conv.weight / PIXEL_CENTRE, conv.bias)
        values = graph.add(
            "Conv",
            name,
            [
                values,
                graph.weight(f"{name}/weight", conv.weight),
                graph.weight(f"{name}/bias", conv.bias),
            ],
            kernel_shape=[layer.kernel] * 2,
            strides=[layer.stride] * 2,
            pads=[layer.kernel // 2] * 4,
        )
        values = graph.add("LeakyRelu", f"{name}/leaky", [values], alpha=LEAK)
        if layer.pool > 1:
            sides = [layer.pool] * 2
            values = graph.add(
                "MaxPool", f"{name}/pool", [values], kernel_shape=sides, strides=sides
            )
    flat = graph.reshape("features/flat", values, 0, 1, variant.flat_features)
    features = add_affine(graph, "features", flat, weights.linear("features"))
    return graph.add("LeakyRelu", "features/leaky", [features], alpha=LEAK)


def _add_joined(
    graph: GraphBuilder, variant: DrltVariant, weights: Scope, features: str, known: str
) -> str:
    """The layer on features and location, the latter's part on its own.

    A location is not quantized: with the features' steps it would be rounded to a few places.
    """
    weight, bias = weights.linear("joined")
    zero = graph.weight("history/zero", np.array(0.0))
    location = graph.add("Where", "location/seen", [known, zero, "location"])
    place = graph.weight("location/weight", weight[variant.features :])
    told = graph.add("Gemm", "location/part", [location, place])
    told = graph.reshape("location/row", told, 0, 1, variant.observation)
    joined = add_affine(
        graph, "joined/features", features, Affine(weight[: variant.features], bias)
    )
    joined = graph.add("Add", "joined", [joined, told])
    return graph.add("LeakyRelu", "joined/leaky", [joined], alpha=LEAK)


def _add_past(graph: GraphBuilder, name: str, known: str) -> str:
    """A state, or zeros in a target's first frame, whatever the buffer holds."""
    zero = graph.weight("history/zero", np.array(0.0))
    return graph.add("Where", f"lstm/{name}/past", [known, name, zero])


def _add_lstm(
    graph: GraphBuilder, variant: DrltVariant, weights: Scope, observed: str, past: str, cell: str
) -> None:
    """One step: adds `h_out` and `c_out`."""
    hidden = variant.hidden
    bias = weights["bias_ih_l0"] + weights["bias_hh_l0"]
    seen = add_affine(graph, "gates/seen", observed, Affine(weights.stored("weight_ih_l0").T, bias))
    rows = graph.reshape("lstm/h/row", past, 0, 1, hidden)
    remembered = graph.weight("gates/remembered/weight", weights.stored("weight_hh_l0").T)
    product = graph.add("MatMul", "gates/remembered", [rows, remembered])
    gates = graph.add("Add", "lstm/gates", [seen, product])
    gates = graph.reshape("lstm/gates/flat", gates, 0, 4 * hidden)
    parts = [f"lstm/{gate}/raw" for gate in GATES]
    sizes = graph.indices(*[hidden] * 4)
    raw = graph.add_many("Split", "lstm/split", [gates, sizes], parts, axis=1)
    squash = ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid")
    enter, forget, new, leave = (
        graph.add(op, f"lstm/{gate}", [part])
        for op, gate, part in zip(squash, GATES, raw, strict=True)
    )
    kept = graph.add("Mul", "lstm/kept", [forget, cell])
    added = graph.add("Mul", "lstm/added", [enter, new])
    graph.add("Add", "c_out", [kept, added])
    shown = graph.add("Tanh", "lstm/shown", ["c_out"])
    graph.add("Mul", "h_out", [leave, shown])


BUILDERS = {STEP: build_step_graph}
