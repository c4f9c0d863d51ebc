"""A tracker's graphs as every tool sees them: tensor names, types, shapes and roles. Public API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from relo_edge.errors import BundleError
from relo_edge.spec import TrackerVariant

__all__ = [
    "BATCH",
    "INPUT_ROLES",
    "OUTPUT_ROLES",
    "PIXELS",
    "PIXEL_CENTRE",
    "PIXEL_REACH",
    "STEP",
    "TEMPLATE",
    "EngineGraph",
    "GraphContract",
    "StateTensor",
    "TensorSpec",
    "check_graph",
    "describe_graph",
    "list_graphs",
]

BATCH = "batch"
TEMPLATE, STEP = "template", "step"
"""The graph that is run once a template, where there are templates; and the one of every frame."""

PIXELS = "pixels/centred"
"""The tensor of pixels less their centre."""

PIXEL_CENTRE = 128.0
"""What a step graph takes off each pixel, and folds back into the first layer's bias."""

PIXEL_REACH = 127.0
"""What becomes 127 of them in INT8: they are whole numbers, so steps of one lose nothing."""

INPUT_ROLES = ("pixels", "given", "target", "state", "fresh", "shared")
"""`pixels` are new in every call; `given` is what a target's own graph is told beside them;
`target` is set once a target, or with a new template, and kept by the runtime; `state` is carried
from step to step; `fresh` is 0 in a target's first frame and 1 afterwards; `shared` is one for all
targets."""

OUTPUT_ROLES = ("box", "score", "map", "state", "target")
"""`target` is what a target's own graph makes: part of the input of that name."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output; the batch is the only dimension without a number."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    role: str = ""
    partner: str = ""
    """Of a state's input: the output that it is in the next step."""

    def at_batch(self, batch: int) -> tuple[int, ...]:
        """The shape once the batch is known."""
        return tuple(batch if size == BATCH else int(size) for size in self.shape)


@dataclass(frozen=True)
class StateTensor:
    """A tensor that is carried: where it goes in, and where it comes out."""

    before: TensorSpec
    after: TensorSpec


@dataclass(frozen=True)
class GraphContract:
    """What goes into a graph and what comes out."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def list_inputs(self, *roles: str) -> tuple[TensorSpec, ...]:
        """The inputs of these roles, role by role."""
        return tuple(spec for role in roles for spec in self.inputs if spec.role == role)

    def list_outputs(self, *roles: str) -> tuple[TensorSpec, ...]:
        """The outputs of these roles, role by role."""
        return tuple(spec for role in roles for spec in self.outputs if spec.role == role)

    def find_input(self, role: str) -> TensorSpec | None:
        """The input of a role that a graph has once at most."""
        return next(iter(self.list_inputs(role)), None)

    def find_output(self, role: str) -> TensorSpec | None:
        """The same for an output."""
        return next(iter(self.list_outputs(role)), None)

    @property
    def pixels(self) -> TensorSpec:
        """The input of pixels, which every graph that runs on frames has."""
        return self.list_inputs("pixels")[0]

    @cached_property
    def states(self) -> tuple[StateTensor, ...]:
        """What is carried from step to step, in the order of the inputs."""
        outputs = {spec.name: spec for spec in self.outputs}
        return tuple(StateTensor(one, outputs[one.partner]) for one in self.list_inputs("state"))


@dataclass(frozen=True)
class EngineGraph:
    """A file that an engine is built from: a bundle's graph, or one made from it on the way."""

    path: Path
    state_dtype: str
    kept: Mapping[str, str] = field(default_factory=dict)
    """The nodes that stay in float32, and why."""


def describe_graph(
    variant: TrackerVariant, graph: str, state_dtype: str = "float32"
) -> GraphContract:
    """The contract of one of a variant's graphs; half-precision graphs may carry such a state."""
    from relo_edge.families.registry import find_family  # families are made of these classes

    return find_family(variant.family).contract(variant, graph, state_dtype)


def list_graphs(variant: TrackerVariant) -> tuple[str, ...]:
    """The graphs that every precision of a variant has; the step is the last."""
    from relo_edge.families.registry import find_family

    return find_family(variant.family).graphs


Shapes = Mapping[str, Sequence[object]]
"""By tensor; a dimension without a number is any other object."""


def check_graph(
    path: Path, variant: TrackerVariant, graph: str, inputs: Shapes, outputs: Shapes
) -> None:
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
    path: Path, variant: TrackerVariant, spec: TensorSpec, found: Sequence[object]
) -> BundleError:
    return BundleError(
        f"{path} is not of the manifest's variant, {variant.name}: {spec.name}",
        found=list(found) or "no such tensor",
        expected=list(spec.shape),
        fix="export the checkpoint again",
    )
