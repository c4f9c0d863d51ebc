"""A sentence's token ids to what it adds to the text token: CLIP's text tower as a graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import describe_graph
from relo_edge.errors import GateError
from relo_edge.export.blocks import add_affine
from relo_edge.export.builder import GraphBuilder
from relo_edge.export.folding import Affine, Scope
from relo_edge.families.words import WORDS, list_word_ids
from relo_edge.graphs.sessions import open_session
from relo_edge.spec import Variant

if TYPE_CHECKING:
    from onnx import ModelProto

    from relo_edge.network.sutrack import SuTrack

__all__ = ["build_words_graph", "verify_words"]

HEAD_SIZE = 64
EPSILON = 1e-5
HIDDEN = -1e9
"""What is added to a logit that may not be seen; its weight is exactly 0 then."""

TOLERANCE = 1e-4
"""Of the largest entry."""


def build_words_graph(variant: Variant, weights: Scope, no_words: NDArray[Any]) -> ModelProto:
    """`word_ids` → `text_shift`."""
    graph, clip = GraphBuilder(WORDS), weights.below("text_encoder.clip")
    embedding = graph.weight("embedding", clip.stored("token_embedding.weight"))
    tokens = graph.add("Gather", "words/tokens", [embedding, "word_ids"], axis=0)
    position = clip["positional_embedding"]
    tokens = graph.add("Add", "words/placed", [tokens, graph.weight("position", position)])
    count, width = position.shape
    mask = graph.weight("mask", np.triu(np.full((count, count), HIDDEN), 1))
    for index in range(_count_blocks(clip)):
        block = clip.below(f"transformer.resblocks.{index}")
        tokens = _add_block(graph, block, f"block{index}", tokens, mask, width)
    tokens = _add_norm(graph, "ln_final", tokens, clip.affine("ln_final"))
    # The id of a sentence's end is the highest of all.
    end = graph.add("ArgMax", "words/end", ["word_ids"], axis=1, keepdims=1)
    row = graph.add("GatherND", "words/row", [tokens, end], batch_dims=1)
    projection = weights.below("text_encoder").linear("text_proj")
    feature = clip["text_projection"] @ projection.weight
    shift = add_affine(
        graph, "words/shift", row, Affine(feature, projection.bias - no_words.reshape(-1))
    )
    graph.add("Unsqueeze", "text_shift", [shift, graph.indices(1)])
    metadata = {"relo_edge.graph": WORDS, "relo_edge.variant": variant.name}
    return graph.build(describe_graph(variant, WORDS), metadata)


def verify_words(path: Path, network: SuTrack) -> float:
    """The largest error beside the network's text tokens; raises beyond tolerance."""
    import torch

    session = open_session(path)
    highest = network.text_encoder.clip.token_embedding.num_embeddings - 1
    rng = np.random.default_rng(0)
    ids = np.stack([list_word_ids([]) for _ in "123"])
    for row in ids[1:]:
        row[:6] = [*rng.integers(1, highest, 5), highest]
        row[6:] = 0
    (got,) = session.run(["text_shift"], {"word_ids": ids})
    with torch.inference_mode():
        want = (network.text_encoder(torch.from_numpy(ids)) - network.encode_words()).numpy()
    error = float(np.abs(got - want).max() / max(1.0, float(np.abs(want).max())))
    if not error <= TOLERANCE:
        raise GateError(
            "words graph differs from the network",
            found=f"{error:.1e}",
            expected=f"at most {TOLERANCE:.0e}",
        )
    return error


def _add_block(
    graph: GraphBuilder, block: Scope, name: str, tokens: str, mask: str, width: int
) -> str:
    """Causal attention, then an MLP with CLIP's own approximation of GELU."""
    normed = _add_norm(graph, f"{name}/ln_1", tokens, block.affine("ln_1"))
    fused = Affine(block["attn.in_proj_weight"].T.copy(), block["attn.in_proj_bias"].copy())
    fused.weight[:, :width] *= HEAD_SIZE**-0.5
    fused.bias[:width] *= HEAD_SIZE**-0.5
    heads = width // HEAD_SIZE
    qkv = add_affine(graph, f"{name}/qkv", normed, fused)
    split = graph.reshape(f"{name}/split", qkv, 0, -1, 3 * heads, HEAD_SIZE)
    split = graph.add("Transpose", f"{name}/heads", [split], perm=[0, 2, 1, 3])
    parts = [f"{name}/{part}" for part in ("query", "key", "value")]
    sizes = graph.indices(heads, heads, heads)
    query, key, value = graph.add_many("Split", f"{name}/parts", [split, sizes], parts, axis=1)
    key = graph.add("Transpose", f"{name}/key/columns", [key], perm=[0, 1, 3, 2])
    logits = graph.add("MatMul", f"{name}/logits", [query, key])
    logits = graph.add("Add", f"{name}/masked", [logits, mask])
    share = graph.add("Softmax", f"{name}/softmax", [logits], axis=-1)
    mixed = graph.add("MatMul", f"{name}/mix", [share, value])
    mixed = graph.add("Transpose", f"{name}/tokens", [mixed], perm=[0, 2, 1, 3])
    mixed = graph.reshape(f"{name}/merge", mixed, 0, -1, width)
    mixed = add_affine(graph, f"{name}/out", mixed, block.linear("attn.out_proj"))
    tokens = graph.add("Add", f"{name}/attended", [tokens, mixed])
    normed = _add_norm(graph, f"{name}/ln_2", tokens, block.affine("ln_2"))
    hidden = add_affine(graph, f"{name}/c_fc", normed, block.linear("mlp.c_fc"))
    steep = graph.add("Mul", f"{name}/steep", [hidden, graph.weight("quick", np.array(1.702))])
    gate = graph.add("Sigmoid", f"{name}/gate", [steep])
    gated = graph.add("Mul", f"{name}/gated", [hidden, gate])
    changed = add_affine(graph, f"{name}/c_proj", gated, block.linear("mlp.c_proj"))
    return graph.add("Add", f"{name}/output", [tokens, changed])


def _add_norm(graph: GraphBuilder, name: str, tokens: str, norm: Affine) -> str:
    inputs = [tokens, graph.weight(f"{name}/scale", norm.weight)]
    inputs.append(graph.weight(f"{name}/bias", norm.bias))
    return graph.add("LayerNormalization", name, inputs, axis=-1, epsilon=EPSILON)


def _count_blocks(clip: Scope) -> int:
    start = f"{clip.prefix}transformer.resblocks."
    found: Any = {
        name[len(start) :].partition(".")[0] for name in clip.tensors if name.startswith(start)
    }
    return len(found)
