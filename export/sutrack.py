"""SUTrack's graphs: RELO's without temporal tokens, and with a class and a text token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import BATCH, STEP, describe_graph
from relo_edge.export.blocks import add_main_block, add_norm
from relo_edge.export.builder import GraphBuilder
from relo_edge.export.folding import Scope
from relo_edge.export.graphs import (
    add_search_tokens,
    build_template_graph,
    describe_origin,
    name_block,
)
from relo_edge.export.heads import add_choice, add_heads
from relo_edge.export.words import build_words_graph, verify_words
from relo_edge.families.sutrack import TEXT
from relo_edge.graphs.saving import save_graph
from relo_edge.spec import SIZE_FLOOR, Variant

if TYPE_CHECKING:
    from onnx import ModelProto

    from relo_edge.network.checkpoint import Checkpoint

__all__ = ["BUILDERS", "build_step_graph", "encode_no_words", "write_words"]

CONSTANT_TOKENS = 2


def build_step_graph(variant: Variant, weights: Scope) -> ModelProto:
    """A search crop, the templates' tokens and a text's → a box and the map of centres."""
    graph, body = GraphBuilder(STEP), weights.below("encoder.body")
    search = add_search_tokens(graph, variant, body)
    constants = _add_constant_tokens(graph, variant, body, encode_no_words(weights))
    # Attention does not know the order: the search tokens stand first, so that the last block
    # computes nothing else.
    tokens = graph.add("Concat", "tokens", [search, "template_tokens", constants], axis=1)
    count = variant.search_tokens + variant.template_tokens + CONSTANT_TOKENS
    for index in range(variant.depth):
        kept = count if index < variant.depth - 1 else variant.search_tokens
        block = body.below(name_block(variant, index))
        tokens = add_main_block(graph, variant, block, f"block{index}", tokens, None, kept)
    tokens = add_norm(graph, "fc_norm", tokens, body.affine("fc_norm"))
    heads = add_heads(graph, variant, weights, tokens, ("centre", "decoder"))
    logits, sizes, offsets = heads
    scores = graph.add("Sigmoid", "centre/sigmoid", [logits])
    least = graph.weight("size/least", np.array(SIZE_FLOOR))
    most = graph.weight("size/most", np.array(1 - SIZE_FLOOR))
    scores = graph.add("Clip", "centre/scores", [scores, least, most])
    graph.reshape("score_map", scores, 0, variant.grid, variant.grid)
    add_choice(graph, variant, scores, sizes, offsets, "window")
    return graph.build(describe_graph(variant, STEP), describe_origin(variant, STEP))


def encode_no_words(weights: Scope) -> NDArray[Any]:
    """The checkpoint's own text token [1,1,C] for no words: its text tower, run once."""
    import torch

    from relo_edge.network.clip_text import CLIP_CONTEXT
    from relo_edge.network.sutrack import TextEncoder

    part = weights.below("text_encoder")
    tensors = {
        name.removeprefix(part.prefix): torch.from_numpy(np.asarray(values, np.float32))
        for name, values in part.tensors.items()
        if name.startswith(part.prefix)
    }
    with torch.device("meta"):
        tower = TextEncoder(len(tensors["text_proj.bias"]))
    tower.load_state_dict(tensors, assign=True)
    with torch.inference_mode():
        token: NDArray[Any] = tower.eval()(torch.zeros(1, CLIP_CONTEXT, dtype=torch.int64)).numpy()
    return token


def write_words(checkpoint: Checkpoint, path: Path) -> None:
    """The graph from a sentence's token ids to `text_shift`, once it agrees with the network."""
    from relo_edge.network.sutrack import build_sutrack

    variant = cast(Variant, checkpoint.variant)
    weights = Scope({name: tensor.numpy() for name, tensor in checkpoint.weights.items()})
    save_graph(build_words_graph(variant, weights, encode_no_words(weights)), path)
    verify_words(path, build_sutrack(variant, checkpoint.weights))


def _add_constant_tokens(
    graph: GraphBuilder, variant: Variant, body: Scope, no_words: NDArray[Any]
) -> str:
    """The class token, and the text token with what the target's words add to it: [B,2,C]."""
    shape = graph.add("Shape", "text/shape", [TEXT])
    alone = graph.weight("class/token", body["cls_token"])
    classes = graph.add("Expand", "class/tokens", [alone, shape])
    graph.describe(classes, "float32", (BATCH, 1, variant.width))
    text = graph.add("Add", "text/token", [TEXT, graph.weight("text/no_words", no_words)])
    return graph.add("Concat", "text/class_and_text", [classes, text], axis=1)


BUILDERS = {"template": build_template_graph, STEP: build_step_graph}
