"""The two graphs of a bundle: `template`, run once a template, and `step`, run once a frame."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.contract import BATCH, describe_graph
from relo_edge.export.blocks import add_main_block, add_norm, add_pixel_encoder
from relo_edge.export.builder import FLOAT, GraphBuilder
from relo_edge.export.folding import Scope
from relo_edge.export.heads import add_choice, add_heads
from relo_edge.spec import Variant

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = [
    "BUILDERS",
    "add_search_tokens",
    "build_step_graph",
    "build_template_graph",
    "describe_origin",
    "name_block",
]

BODY = "encoder.body"


def build_template_graph(variant: Variant, weights: Scope) -> ModelProto:
    """`template` and `box` → `template_tokens`."""
    graph, body = GraphBuilder("template"), weights.below(BODY)
    position = body["pos_embed"][0, variant.search_tokens :]
    background = body["template_background_token"]
    encoded = add_pixel_encoder(
        graph, variant, body, "template", variant.template_size, position + background
    )
    share = _add_foreground_share(graph, variant)
    change = graph.weight("role/change", body["template_foreground_token"] - background)
    role = graph.add("Mul", "role", [share, change])
    graph.add("Add", "template_tokens", [encoded, role])
    return graph.build(describe_graph(variant, "template"), describe_origin(variant, "template"))


def build_step_graph(variant: Variant, weights: Scope) -> ModelProto:
    """A search crop, the templates' tokens and last frame's state → a box and the new state."""
    graph, body = GraphBuilder("step"), weights.below(BODY)
    search = add_search_tokens(graph, variant, body)
    tokens = _add_main_blocks(graph, variant, body, search)
    tokens = add_norm(graph, "fc_norm", tokens, body.affine("fc_norm"))
    heads = add_heads(graph, variant, weights, tokens, ("policy", "policy_model"))
    logits, sizes, offsets = heads
    graph.reshape("policy_logits", logits, 0, variant.grid, variant.grid)
    add_choice(graph, variant, logits, sizes, offsets, "window")
    return graph.build(describe_graph(variant, "step"), describe_origin(variant, "step"))


def add_search_tokens(graph: GraphBuilder, variant: Variant, body: Scope) -> str:
    """The search crop's tokens before the first main block."""
    position = body["pos_embed"][0, : variant.search_tokens] + body["search_token"]
    return add_pixel_encoder(graph, variant, body, "search", variant.search_size, position)


def _add_main_blocks(graph: GraphBuilder, variant: Variant, body: Scope, search: str) -> str:
    """All main blocks: adds `temporal_tokens_out`, returns the last block's search tokens."""
    current = _add_fresh_temporal_tokens(graph, variant, body)
    half = graph.weight("history/half", np.array(0.5))
    carries = graph.add("Greater", "history/known", ["has_history", half])
    carries = graph.add("Unsqueeze", "history/carries", [carries, graph.indices(1, 2)])
    tokens = graph.add("Concat", "tokens", [search, "template_tokens", current], axis=1)
    count = variant.search_tokens + variant.template_tokens + variant.temporal_tokens
    entries = []
    for index in range(variant.depth):
        name = f"block{index}"
        if index:
            first = count - variant.temporal_tokens
            current = graph.slice_rows(f"{name}/current", tokens, first, count)
        entries.append(current)
        layer = ["temporal_tokens", graph.index(index)]
        stored = graph.add("Gather", f"{name}/stored", layer, axis=1)
        propagated = graph.add("Where", f"{name}/propagated", [carries, stored, current])
        kept = count if index < variant.depth - 1 else variant.search_tokens
        block = body.below(name_block(variant, index))
        tokens = add_main_block(graph, variant, block, name, tokens, propagated, kept)
    joined = graph.add("Concat", "state/rows", entries, axis=1)
    graph.reshape("temporal_tokens_out", joined, 0, *variant.state_shape)
    return tokens


def name_block(variant: Variant, index: int) -> str:
    """A main block's place in the checkpoint: after the stages and a merge behind each."""
    return f"blocks.{sum(variant.stage_blocks) + 2 + index}"


def _add_fresh_temporal_tokens(graph: GraphBuilder, variant: Variant, body: Scope) -> str:
    """The constant temporal tokens with which each frame starts, one copy per target."""
    rows, width = variant.temporal_tokens, variant.width
    fresh = graph.weight("temporal/fresh", body["ttokens"] + body["pos_embed_ttoken"])
    batch = graph.add("Shape", "temporal/batch", ["has_history"])
    shape = graph.add("Concat", "temporal/shape", [batch, graph.indices(rows, width)], axis=0)
    tokens = graph.add("Expand", "temporal/tokens", [fresh, shape])
    graph.describe(tokens, "float32", (BATCH, rows, width))
    return tokens


def _add_foreground_share(graph: GraphBuilder, variant: Variant) -> str:
    """The share of each token's patch inside the box: [B,·,1]."""
    size = graph.weight("role/size", np.array(variant.template_size))
    pixels = graph.add("Mul", "role/pixels", ["box", size])
    parts = [f"role/{part}" for part in ("x", "y", "w", "h")]
    ones = graph.indices(1, 1, 1, 1)
    x, y, w, h = graph.add_many("Split", "role/split", [pixels, ones], parts, axis=1)
    columns = _add_span_share(graph, variant, "role/columns", x, w)
    rows = _add_span_share(graph, variant, "role/rows", y, h)
    columns = graph.add("Unsqueeze", "role/across", [columns, graph.indices(1)])
    rows = graph.add("Unsqueeze", "role/down", [rows, graph.indices(2)])
    share = graph.add("Mul", "role/share", [rows, columns])
    return graph.reshape("role/tokens", share, 0, variant.tokens_per_template, 1)


def _add_span_share(
    graph: GraphBuilder, variant: Variant, name: str, start: str, length: str
) -> str:
    """Along one axis, the share of each patch's pixels p with start <= p < start + length."""
    line = graph.weight("role/line", np.arange(variant.template_size)[None])
    stop = graph.add("Add", f"{name}/stop", [start, length])
    after = graph.add("GreaterOrEqual", f"{name}/after", [line, start])
    before = graph.add("Less", f"{name}/before", [line, stop])
    inside = graph.add("And", f"{name}/inside", [after, before])
    inside = graph.add("Cast", f"{name}/count", [inside], to=FLOAT)
    inside = graph.reshape(f"{name}/cells", inside, 0, -1, variant.patch)
    return graph.add("ReduceMean", name, [inside, graph.indices(2)], keepdims=0)


def describe_origin(variant: Variant, graph: str) -> dict[str, str]:
    """Metadata for readers who have the file without its bundle."""
    told = {
        "relo_edge.graph": graph,
        "relo_edge.variant": variant.name,
        "relo_edge.spec": json.dumps(variant.to_dict()),
        "relo_edge.pixels": "RGB uint8, normalised inside the graph",
    }
    if variant.temporal_tokens:
        told["relo_edge.state"] = (
            "temporal_tokens_out of one frame is temporal_tokens of the next; "
            "with has_history 0 the state is ignored"
        )
    return told


BUILDERS = {"template": build_template_graph, "step": build_step_graph}
