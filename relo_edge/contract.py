"""The two graphs as every tool sees them: tensor names, types and shapes. Public API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from relo_edge.errors import BundleError
from relo_edge.spec import Variant

__all__ = [
    "BATCH",
    "GRAPHS",
    "PIXELS",
    "PIXEL_REACH",
    "EngineGraph",
    "GraphContract",
    "TensorSpec",
    "check_graph",
    "describe_graph",
]

BATCH = "batch"
GRAPHS = ("template", "step")
PIXELS = "pixels/centred"
"""The tensor of pixels less 128."""

PIXEL_REACH = 127.0
"""What becomes 127 of them in INT8: they are whole numbers, so steps of one lose nothing."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; the batch is the only dimension without a number."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def at_batch(self, batch: int) -> tuple[int, ...]:
        """The shape once the batch is known."""
        return tuple(batch if size == BATCH else int(size) for size in self.shape)


@dataclass(frozen=True)
class GraphContract:
    """What goes into a graph and what comes out."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class EngineGraph:
    """A file that an engine is built from: a bundle's graph, or one made from it on the way."""

    path: Path
    state_dtype: str
    kept: Mapping[str, str] = field(default_factory=dict)
    """The nodes that stay in float32, and why."""


def describe_graph(variant: Variant, graph: str, state_dtype: str = "float32") -> GraphContract:
    """The contract of `template` or `step`; half-precision graphs may carry such a state."""
    if graph == "template":
        return _describe_template(variant)
    side, grid = variant.search_size, variant.grid
    state = (BATCH, *variant.state_shape)
    tokens = (BATCH, variant.template_tokens, variant.width)
    return GraphContract(
        inputs=(
            TensorSpec("search", "uint8", (BATCH, side, side, 3)),
            TensorSpec("template_tokens", "float32", tokens),
            TensorSpec("temporal_tokens", state_dtype, state),
            TensorSpec("has_history", "float32", (BATCH,)),
            TensorSpec("window", "float32", (grid, grid)),
        ),
        outputs=(
            TensorSpec("box", "float32", (BATCH, 4)),
            TensorSpec("score", "float32", (BATCH,)),
            TensorSpec("policy_logits", "float32", (BATCH, grid, grid)),
            TensorSpec("temporal_tokens_out", state_dtype, state),
        ),
    )


Shapes = Mapping[str, Sequence[object]]
"""By tensor; a dimension without a number is any other object."""


def check_graph(path: Path, variant: Variant, graph: str, inputs: Shapes, outputs: Shapes) -> None:
    """Compare a graph's own inputs and outputs with the variant of its manifest.

    Args:
        path: the graph's file.
        variant: what the manifest says that it is of.
        graph: which of the graphs it is.
        inputs: the shapes that the graph takes; the batch may be any.
        outputs: the shapes that it declares; a dimension may be unknown.

    Raises:
        BundleError: a tensor is missing or of another shape.
    """
    contract = describe_graph(variant, graph)
    for spec in contract.inputs:
        shape = list(inputs.get(spec.name, ()))
        if shape[1:] != list(spec.shape[1:]):
            raise _refuse_tensor(path, variant, spec, shape)
    for spec in contract.outputs:
        shape = list(outputs.get(spec.name, ()))
        known = zip(shape[1:], spec.shape[1:], strict=False)
        wrong = any(isinstance(size, int) and size != wanted for size, wanted in known)
        if wrong or len(shape) != len(spec.shape):
            raise _refuse_tensor(path, variant, spec, shape)


def _refuse_tensor(
    path: Path, variant: Variant, spec: TensorSpec, found: Sequence[object]
) -> BundleError:
    return BundleError(
        f"{path} is not of the manifest's variant, {variant.name}: {spec.name}",
        found=list(found) or "no such tensor",
        expected=list(spec.shape),
        fix="export the checkpoint again",
    )


def _describe_template(variant: Variant) -> GraphContract:
    side = variant.template_size
    tokens = (BATCH, variant.tokens_per_template, variant.width)
    return GraphContract(
        inputs=(
            TensorSpec("template", "uint8", (BATCH, side, side, 3)),
            TensorSpec("box", "float32", (BATCH, 4)),
        ),
        outputs=(TensorSpec("template_tokens", "float32", tokens),),
    )
