"""The template graph that the one-stream families share."""

from __future__ import annotations

from relo_edge.contract import BATCH, GraphContract, TensorSpec
from relo_edge.spec import Variant

__all__ = ["describe_template"]


def describe_template(variant: Variant) -> GraphContract:
    """A crop and the target's box in it → tokens: a part of the step's input of that name."""
    side = variant.template_size
    tokens = (BATCH, variant.tokens_per_template, variant.width)
    return GraphContract(
        inputs=(
            TensorSpec("template", "uint8", (BATCH, side, side, 3), "pixels"),
            TensorSpec("box", "float32", (BATCH, 4), "given"),
        ),
        outputs=(TensorSpec("template_tokens", "float32", tokens, "target"),),
    )
