"""The heads as ONNX nodes: search tokens to maps, and maps to one box a target."""

from __future__ import annotations

import numpy as np

from relo_edge.export.builder import GraphBuilder
from relo_edge.export.folding import Affine, Scope, fold_batch_norm, fuse_outputs
from relo_edge.spec import SIZE_FLOOR, Variant

__all__ = ["add_choice", "add_heads"]

LEVELS = 4


def add_heads(
    graph: GraphBuilder, variant: Variant, weights: Scope, tokens: str, centre: tuple[str, str]
) -> tuple[str, str, str]:
    """Final search tokens → logits [B,G²], sizes and offsets [B,2,G²].

    `centre` is what the tower of the logits is called here, and where in the checkpoint it is.
    """
    cells, grid = variant.search_tokens, variant.grid
    maps = graph.add("Transpose", "heads/channels", [tokens], perm=[0, 2, 1])
    maps = graph.reshape("heads/maps", maps, 0, variant.width, grid, grid)
    name, place = centre
    decoder = weights.below("decoder")
    towers = {
        name: (weights.below(place), "ctr"),
        "size": (decoder, "size"),
        "offset": (decoder, "offset"),
    }
    first = fuse_outputs(*(_fold_level(head, 1, s) for head, s in towers.values()), axis=0)
    shared = _add_conv(graph, "heads/conv1", maps, first)
    sizes = graph.indices(*[variant.head_channels] * len(towers))
    starts = [f"{tower}/conv1" for tower in towers]
    graph.add_many("Split", "heads/split", [shared, sizes], starts, axis=1)
    ends = {}
    for tower, (head, suffix) in towers.items():
        features = f"{tower}/conv1"
        for level in range(2, LEVELS + 1):
            conv = _fold_level(head, level, suffix)
            features = _add_conv(graph, f"{tower}/conv{level}", features, conv)
        conv = head.affine(f"conv5_{suffix}")
        ends[tower] = _add_conv(graph, f"{tower}/conv5", features, conv, relu=False)
    logits = graph.reshape(f"{name}/logits", ends[name], 0, cells)
    raw_size = graph.reshape("size/raw", ends["size"], 0, 2, cells)
    size = graph.add("Sigmoid", "size/sigmoid", [raw_size])
    least = graph.weight("size/least", np.array(SIZE_FLOOR))
    most = graph.weight("size/most", np.array(1 - SIZE_FLOOR))
    size = graph.add("Clip", "size/map", [size, least, most])
    return logits, size, graph.reshape("offset/map", ends["offset"], 0, 2, cells)


def add_choice(
    graph: GraphBuilder, variant: Variant, logits: str, sizes: str, offsets: str, window: str
) -> None:
    """The cell with the greatest windowed logit: its `score` and `box`, the graph's outputs."""
    cells, grid = variant.search_tokens, variant.grid
    weights = graph.reshape("choice/window", window, 1, cells)
    windowed = graph.add("Mul", "choice/windowed", [logits, weights])
    graph.add("ReduceMax", "score", [windowed, graph.indices(1)], keepdims=0)
    cell = graph.add("ArgMax", "choice/cell", [windowed], axis=1, keepdims=1)
    row, column = np.divmod(np.arange(cells), grid)
    corners = graph.weight("choice/corners", np.stack([column, row])[None])
    shifted = graph.add("Add", "choice/shifted", [offsets, corners])
    scale = graph.weight("choice/cell_size", np.array(1 / grid))
    centres = graph.add("Mul", "choice/centres", [shifted, scale])
    boxes = graph.add("Concat", "choice/boxes", [centres, sizes], axis=1)
    boxes = graph.add("Transpose", "choice/by_cell", [boxes], perm=[0, 2, 1])
    graph.add("GatherND", "box", [boxes, cell], batch_dims=1)


def _fold_level(head: Scope, level: int, suffix: str) -> Affine:
    block = head.below(f"conv{level}_{suffix}")
    return fold_batch_norm(block.affine("0"), block.below("1"))


def _add_conv(graph: GraphBuilder, name: str, maps: str, conv: Affine, *, relu: bool = True) -> str:
    side = conv.weight.shape[-1]
    weight = graph.weight(f"{name}/weight", conv.weight)
    inputs = [maps, weight, graph.weight(f"{name}/bias", conv.bias)]
    padding = [side // 2] * 4
    output = f"{name}/sum" if relu else name
    output = graph.add("Conv", output, inputs, kernel_shape=[side, side], pads=padding)
    return graph.add("Relu", name, [output]) if relu else output
