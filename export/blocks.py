"""The encoder's parts as ONNX nodes: pixels to tokens, and one main block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import BATCH, PIXEL_CENTRE, PIXELS
from relo_edge.export.builder import FLOAT, GraphBuilder
from relo_edge.export.folding import (
    Affine,
    Scope,
    centre_pixels,
    fold_layer_scale,
    fold_normalisation,
    fold_repeated,
    fuse_outputs,
    fuse_qkv,
    patch_matrix,
)
from relo_edge.spec import LAYER_NORM_EPSILON, PIXEL_MEAN, PIXEL_STD, Variant

__all__ = ["add_affine", "add_main_block", "add_norm", "add_pixel_encoder"]

MERGES = 2
EMBED_SIDE = 4


def add_affine(graph: GraphBuilder, name: str, tokens: str, layer: Affine) -> str:
    """tokens · W + b."""
    weight = graph.weight(f"{name}/weight", layer.weight)
    product = graph.add("MatMul", f"{name}/matmul", [tokens, weight])
    return graph.add("Add", name, [product, graph.weight(f"{name}/bias", layer.bias)])


def add_norm(graph: GraphBuilder, name: str, tokens: str, norm: Affine) -> str:
    """LayerNorm over the last axis."""
    scale = graph.weight(f"{name}/scale", norm.weight)
    bias = graph.weight(f"{name}/bias", norm.bias)
    inputs = [tokens, scale, bias]
    return graph.add("LayerNormalization", name, inputs, axis=-1, epsilon=LAYER_NORM_EPSILON)


def add_pixel_encoder(
    graph: GraphBuilder,
    variant: Variant,
    body: Scope,
    pixels: str,
    side: int,
    position: NDArray[Any],
) -> str:
    """uint8 crops [B,side,side,3] → tokens [B,·,C] before the first main block.

    The pixels are reordered once, so that the neighbours of both merges are adjacent and each merge
    is a reshape and a matrix product. `position` ([·,C]) is added to the last bias.
    """
    first, second = variant.stage_blocks
    merges = [body.below(f"blocks.{first}"), body.below(f"blocks.{first + 1 + second}")]
    embed = fold_repeated(body.affine("patch_embed.proj"), len(PIXEL_MEAN))
    embed = fold_normalisation(embed, PIXEL_MEAN, PIXEL_STD)
    tokens = _order_patches(graph, pixels, side)
    tokens = add_affine(graph, "patch_embed", tokens, centre_pixels(patch_matrix(embed)))
    for index in range(first):
        tokens = _add_stage_block(graph, f"stage1.{index}", tokens, body.below(f"blocks.{index}"))
    reduction = patch_matrix(merges[0].affine("reduction"))
    tokens = _add_merge(graph, "merge1", tokens, merges[0], reduction)
    for index in range(second):
        block = body.below(f"blocks.{first + 1 + index}")
        tokens = _add_stage_block(graph, f"stage2.{index}", tokens, block)
    reduction = patch_matrix(merges[1].affine("reduction"))
    placed = Affine(reduction.weight, reduction.bias + position)
    return _add_merge(graph, "merge2", tokens, merges[1], placed)


def add_main_block(
    graph: GraphBuilder,
    variant: Variant,
    block: Scope,
    name: str,
    tokens: str,
    propagated: str | None,
    kept: int,
) -> str:
    """One main block. Only the first `kept` tokens have queries; the rest are keys and values."""
    context = tokens
    if propagated is not None:
        context = graph.add("Concat", f"{name}/context", [tokens, propagated], axis=1)
    context = add_norm(graph, f"{name}/norm1", context, block.affine("norm1"))
    mixed = _add_attention(graph, variant, block.below("attn"), name, context, kept)
    projection = fold_layer_scale(block.below("attn").linear("proj"), block["gamma_1"])
    attended = add_affine(graph, f"{name}/attn/proj", mixed, projection)
    # The last block keeps the search tokens only; the others all but the propagated ones.
    residual = tokens if kept > variant.search_tokens else _keep(graph, name, tokens, kept)
    tokens = graph.add("Add", f"{name}/attended", [residual, attended])
    changed = _add_swiglu(graph, variant, block, name, tokens)
    return graph.add("Add", f"{name}/output", [tokens, changed])


def _order_patches(graph: GraphBuilder, pixels: str, side: int) -> str:
    """[B,side,side,3] → [B,patches,48], centred, the patches in the order in which they merge."""
    cells, run = side // (EMBED_SIDE << MERGES), EMBED_SIDE * 3
    patches, values = (side // EMBED_SIDE) ** 2, EMBED_SIDE * run
    # Rank 8 is the most that TensorRT takes, so the batch shares an axis with the rows of cells.
    rows = f"{cells}*{BATCH}"
    shape, perm = (2, 2, EMBED_SIDE, cells, 2, 2, run), (0, 4, 1, 5, 2, 6, 3, 7)
    # TensorRT takes uint8 as an input only: nothing but a Cast may read it.
    levels = graph.add("Cast", "pixels/float", [pixels], to=FLOAT)
    split = graph.reshape("pixels/split", levels, -1, *shape)
    order = graph.add("Transpose", "pixels/order", [split], perm=perm)
    ordered = graph.reshape("pixels/patches", order, -1, patches, values)
    graph.describe(split, "float32", (rows, *shape))
    graph.describe(order, "float32", tuple((rows, *shape)[axis] for axis in perm))
    graph.describe(ordered, "float32", (BATCH, patches, values))
    centre = graph.weight("pixels/centre", np.array(PIXEL_CENTRE))
    return graph.add("Sub", PIXELS, [ordered, centre])


def _add_stage_block(graph: GraphBuilder, name: str, tokens: str, block: Scope) -> str:
    normed = add_norm(graph, f"{name}/norm", tokens, block.affine("norm2"))
    mlp = block.below("mlp")
    hidden = add_affine(graph, f"{name}/fc1", normed, patch_matrix(mlp.affine("fc1")))
    hidden = graph.add("Gelu", f"{name}/gelu", [hidden])
    hidden = add_norm(graph, f"{name}/ffn_ln", hidden, mlp.affine("ffn_ln"))
    changed = add_affine(graph, f"{name}/fc2", hidden, patch_matrix(mlp.affine("fc2")))
    return graph.add("Add", f"{name}/output", [tokens, changed])


def _add_merge(graph: GraphBuilder, name: str, tokens: str, merge: Scope, reduction: Affine) -> str:
    """Four adjacent tokens become one: [B,4n,c] → [B,n,2c]."""
    normed = add_norm(graph, f"{name}/norm", tokens, merge.affine("norm"))
    neighbours = graph.reshape(f"{name}/neighbours", normed, 0, -1, len(reduction.weight))
    return add_affine(graph, name, neighbours, reduction)


def _add_attention(
    graph: GraphBuilder, variant: Variant, attention: Scope, name: str, context: str, kept: int
) -> str:
    """Softmax(q·k)·v for the first `kept` rows of the context.

    Heads are transposed before they are split: TensorRT then fuses the bias into the product, and
    one layout kernel does the work of three.
    """
    heads, size, width = variant.heads, variant.head_size, variant.width
    name = f"{name}/attn"
    fused = add_affine(graph, f"{name}/qkv", context, fuse_qkv(attention, size))
    split = graph.reshape(f"{name}/qkv/split", fused, 0, -1, 3 * heads, size)
    by_head = graph.add("Transpose", f"{name}/qkv/heads", [split], perm=[0, 2, 1, 3])
    parts = [f"{name}/query/all", f"{name}/key/rows", f"{name}/value/heads"]
    sizes = graph.indices(heads, heads, heads)
    query, key, value = graph.add_many("Split", f"{name}/split", [by_head, sizes], parts, axis=1)
    query = graph.slice_rows(f"{name}/query/heads", query, 0, kept, axis=2)
    key = graph.add("Transpose", f"{name}/key/heads", [key], perm=[0, 1, 3, 2])
    logits = graph.add("MatMul", f"{name}/logits", [query, key])
    share = graph.add("Softmax", f"{name}/softmax", [logits], axis=-1)
    mixed = graph.add("MatMul", f"{name}/mix", [share, value])
    mixed = graph.add("Transpose", f"{name}/tokens", [mixed], perm=[0, 2, 1, 3])
    return graph.reshape(f"{name}/merge", mixed, 0, -1, width)


def _add_swiglu(graph: GraphBuilder, variant: Variant, block: Scope, name: str, tokens: str) -> str:
    normed = add_norm(graph, f"{name}/norm2", tokens, block.affine("norm2"))
    mlp, hidden = block.below("mlp"), 3 * variant.width
    gates = fuse_outputs(mlp.linear("w1"), mlp.linear("w2"), axis=1)
    fused = add_affine(graph, f"{name}/mlp/w12", normed, gates)
    outputs = [f"{name}/mlp/gate", f"{name}/mlp/up"]
    sizes = graph.indices(hidden, hidden)
    gate, up = graph.add_many("Split", f"{name}/mlp/split", [fused, sizes], outputs, axis=2)
    sigmoid = graph.add("Sigmoid", f"{name}/mlp/sigmoid", [gate])
    silu = graph.add("Mul", f"{name}/mlp/silu", [gate, sigmoid])
    gated = graph.add("Mul", f"{name}/mlp/gated", [silu, up])
    normed = add_norm(graph, f"{name}/mlp/ffn_ln", gated, mlp.affine("ffn_ln"))
    projection = fold_layer_scale(mlp.linear("w3"), block["gamma_2"])
    return add_affine(graph, f"{name}/mlp/w3", normed, projection)


def _keep(graph: GraphBuilder, name: str, tokens: str, kept: int) -> str:
    return graph.slice_rows(f"{name}/kept", tokens, 0, kept)
