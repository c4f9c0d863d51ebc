"""The tensors that the INT8 graph quantizes, by their names in the graph and their modules.

`export` names the tensors and `quantize` chooses among them; a test compares this list with theirs.
"""

from __future__ import annotations

from collections.abc import Iterator

from relo_edge.contract import PIXELS
from relo_edge.spec import Variant

__all__ = ["ATTENTION", "EMBED", "list_attentions", "list_outputs", "list_rounded"]

ATTENTION = ("query/heads", "key/heads", "softmax", "value/heads")
BODY = "encoder.body"
EMBED = f"{BODY}.patch_embed.proj"
TOWERS = {"policy": ("policy_model", "ctr"), "size": ("decoder", "size")}
TOWERS |= {"offset": ("decoder", "offset")}


def list_rounded(variant: Variant, *, attention: bool = False) -> list[str]:
    """The names of all quantized tensors, with or without those of attention's two products."""
    blocks = dict(list_attentions(variant))
    names = [PIXELS, *dict(list_outputs(variant)), *(f"{name}/merge" for name in blocks)]
    if attention:
        names += [f"{name}/{part}" for name in blocks for part in ATTENTION]
    return names


def list_outputs(variant: Variant) -> Iterator[tuple[str, str]]:
    """Each tensor that is a module's output, and the module's name."""
    first, second = variant.stage_blocks
    merges = {"1": first, "2": first + 1 + second}
    stages = {f"stage1.{i}": i for i in range(first)}
    stages |= {f"stage2.{i}": first + 1 + i for i in range(second)}
    for name, place in stages.items():
        yield f"{name}/norm", f"{BODY}.blocks.{place}.norm2"
        yield f"{name}/ffn_ln", f"{BODY}.blocks.{place}.mlp.ffn_ln"
    for name, place in merges.items():
        yield f"merge{name}/neighbours", f"{BODY}.blocks.{place}.norm"
    for name, block in _list_blocks(variant):
        yield f"{name}/norm1", f"{block}.norm1"
        yield f"{name}/norm2", f"{block}.norm2"
        yield f"{name}/mlp/ffn_ln", f"{block}.mlp.ffn_ln"
    yield "heads/maps", f"{BODY}.fc_norm"
    for name, (head, suffix) in TOWERS.items():
        for level in range(1, 5):
            yield f"{name}/conv{level}", f"{head}.conv{level}_{suffix}"


def list_attentions(variant: Variant) -> Iterator[tuple[str, str]]:
    """The attention of each main block: the prefix of its tensors, and the module's name."""
    for name, block in _list_blocks(variant):
        yield f"{name}/attn", f"{block}.attn"


def _list_blocks(variant: Variant) -> Iterator[tuple[str, str]]:
    first = sum(variant.stage_blocks) + 2
    for index in range(variant.depth):
        yield f"block{index}", f"{BODY}.blocks.{first + index}"
