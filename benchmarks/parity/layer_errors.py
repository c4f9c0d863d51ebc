"""The node in which an error first appears: two graphs run side by side, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.paired_runtime import list_judged
from relo_edge.benchmarks.parity.probes import ProbeStep
from relo_edge.bundle import Bundle
from relo_edge.contract import (
    STEP,
    TEMPLATE,
    GraphContract,
    describe_graph,
    list_graphs,
)
from relo_edge.errors import PrecisionError
from relo_edge.graphs.sessions import Exposed, open_exposed
from relo_edge.spec import TrackerVariant

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["STEPS", "GraphSide", "LayerError", "LayerWalk", "check_side", "walk_layers"]

STEPS = 3
"""One frame without history, two with."""

AT_ONCE = 48
"""Tensors held at a time: all of a large variant's would take gigabytes."""

JUMP = 2.0
"""An error that is so many times that of the node's inputs begins in that node."""

FLOOR = 1e-6
"""What rounding alone gives; less than a hundredth of the logits' own error is left out, too."""

NORM = "LayerNormalization"
SHRINKS, DISTANCE = 10.0, 5
"""A norm's error is no fault where the products after it, their bias added, have so many times
less: its scale and bias were folded into them. So many nodes after it are looked at."""

SHOWN = 6
PIXELS = ("pixels/", "patch_embed")

Feeds = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class GraphSide:
    """A bundle at one of its precisions."""

    bundle: Bundle
    precision: str


@dataclass(frozen=True)
class LayerError:
    """One node's output: the root mean square of its error beside that of its values."""

    graph: str
    node: str
    op: str
    error: float
    before: float
    """The largest error among what goes into the node."""

    @property
    def added(self) -> float:
        """What the node adds, if errors are independent."""
        return float(np.sqrt(max(self.error**2 - self.before**2, 0.0)))


@dataclass(frozen=True)
class LayerWalk:
    """What the comparison of two graphs found."""

    precision: str
    tensors: int
    """How many were compared."""
    births: tuple[LayerError, ...]
    """Nodes in which the error at least doubles, in the graph's order."""
    growth: tuple[LayerError, ...]
    """Other nodes that add most, the largest first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        rows = {"births": self.births, "growth": self.growth}
        plain = {name: [vars(row) for row in found] for name, found in rows.items()}
        return {"precision": self.precision, "tensors": self.tensors, **plain}

    def describe(self) -> str:
        """Two short tables."""
        lines = [f"layers of {self.precision}: {self.tensors} tensors compared"]
        if not self.births:
            return "\n".join([*lines, "  no error begins in these graphs"])
        if self.births and self.births[0].node.startswith(PIXELS):
            lines.append("  from where pixels enter: their normalisation or the embedding")
        for title, rows in (("begins at", self.births), ("grows at", self.growth)):
            for row in rows:
                place = f"{row.graph}: {row.node} ({row.op})"
                lines.append(f"  {title:<10}{place:<46}{row.before:>9.1e} → {row.error:.1e}")
        return "\n".join(lines)


def check_side(bundle: Bundle, precision: str) -> GraphSide:
    """The graphs to compare; what a runtime makes of them at run time cannot be read."""
    if precision not in bundle.precisions:
        raise PrecisionError(
            "layers",
            found=f"{precision}, which has no graph of its own",
            expected=" | ".join(bundle.precisions),
        )
    return GraphSide(bundle, precision)


def walk_layers(
    variant: TrackerVariant,
    steps: Sequence[ProbeStep],
    reference: GraphSide,
    candidate: GraphSide,
    advance: Callable[[], None] = lambda: None,
) -> LayerWalk:
    """Run both sides' graphs on one target's first steps, with the same state."""
    every: list[LayerError] = []
    tensors, largest = 0, 0.0
    contract = describe_graph(variant, STEP, candidate.bundle.state_dtype(candidate.precision))
    targets: Feeds = {name: values[None] for name, values in steps[0].targets.items()}
    for graph in list_graphs(variant):
        one, other = (
            open_exposed(side.bundle.graph(graph, side.precision))
            for side in (reference, candidate)
        )
        if graph == TEMPLATE:
            made = describe_graph(variant, TEMPLATE)
            templates = list(_list_templates(made, steps))
            targets |= _encode_templates(made, one, templates)
            feeds: Iterator[Feeds] = iter(templates)
        else:
            feeds = _list_steps(contract, steps, one, targets)
        errors = _compare_tensors(contract, one, other, feeds, advance)
        tensors += len(errors)
        every += _trace_errors(graph, one.model, errors)
        largest = errors.get(list_judged(contract)[0], 0.0)
    floor = max(FLOOR, largest / 100)
    births = [e for e in every if e.error > floor and e.error > JUMP * e.before][:SHOWN]
    rest = sorted((e for e in every if e not in births), key=lambda e: -e.added)
    growth = [e for e in rest if e.error > floor and e.added > 0][:SHOWN]
    return LayerWalk(candidate.precision, tensors, tuple(births), tuple(growth))


def _list_templates(made: GraphContract, steps: Sequence[ProbeStep]) -> Iterator[Feeds]:
    """What the template graph is fed, a template at a time."""
    (given,) = made.list_inputs("given")
    for template in steps[0].templates:
        yield {made.pixels.name: template.crop[None], given.name: template.box[None]}


def _encode_templates(made: GraphContract, reference: Exposed, templates: Sequence[Feeds]) -> Feeds:
    """The target tensors that the reference's graph makes of all templates."""
    names = [spec.name for spec in made.outputs]
    parts = zip(*(reference.run(names, fed) for fed in templates), strict=True)
    return {name: np.concatenate(p, axis=1) for name, p in zip(names, parts, strict=True)}


def _list_steps(
    contract: GraphContract, steps: Sequence[ProbeStep], reference: Exposed, targets: Feeds
) -> Iterator[Feeds]:
    """What the step graph is fed, the reference's own state coming back."""
    states = [(state.before, state.after.name) for state in contract.states]
    carried: Feeds = {spec.name: np.zeros(spec.at_batch(1), np.float32) for spec, _ in states}
    for step in steps[:STEPS]:
        feeds: Feeds = {contract.pixels.name: step.search[None], **targets, **carried}
        fresh = np.array([not step.forget], np.float32)
        feeds |= {spec.name: fresh for spec in contract.list_inputs("fresh")}
        if step.window is not None:
            feeds |= {spec.name: step.window for spec in contract.list_inputs("shared")}
        yield feeds
        if states:
            left = reference.run([name for _, name in states], feeds)
            carried = {spec.name: one for (spec, _), one in zip(states, left, strict=True)}


def _compare_tensors(
    contract: GraphContract,
    reference: Exposed,
    candidate: Exposed,
    feeds: Iterator[Feeds],
    advance: Callable[[], None],
) -> dict[str, float]:
    """The relative error of every tensor that both have, in the reference's order.

    The contract is that of the candidate's step, which may carry its state in another type.
    """
    shared = set(candidate.tensors)
    names = [name for name in reference.tensors if name in shared]
    sums = {name: np.zeros(2) for name in names}
    for fed in feeds:
        other = dict(fed)
        for spec in contract.list_inputs("state"):
            if spec.name in fed:
                other[spec.name] = fed[spec.name].astype(spec.dtype)
        for start in range(0, len(names), AT_ONCE):
            group = names[start : start + AT_ONCE]
            pairs = zip(reference.run(group, fed), candidate.run(group, other), strict=True)
            for name, (want, got) in zip(group, pairs, strict=True):
                sums[name] += _sum_squares(want, got)
        advance()
    return {name: _divide(*total) for name, total in sums.items()}


def _sum_squares(want: NDArray[Any], got: NDArray[Any]) -> tuple[float, float]:
    if want.shape != got.shape:
        return float("inf"), 1.0
    first, second = want.astype(np.float64), got.astype(np.float64)
    return float(((first - second) ** 2).sum()), float((first**2).sum())


def _divide(error: float, size: float) -> float:
    return float(np.sqrt(error / max(size, 1e-24)))


def _trace_errors(graph: str, model: ModelProto, errors: dict[str, float]) -> list[LayerError]:
    """Each compared tensor with the largest error among the compared ones that it is made of."""
    found, reaching, after_norm = [], dict(errors), _measure_error_after(model, errors)
    for node in model.graph.node:
        before = max((reaching.get(name, 0.0) for name in node.input), default=0.0)
        for name in node.output:
            folded = node.op_type == NORM and errors.get(name, 0.0) > SHRINKS * after_norm.get(
                name, 0.0
            )
            if name in errors and not folded:
                found.append(LayerError(graph, node.name, node.op_type, errors[name], before))
            reaching.setdefault(name, before)
    return _drop_repeats(found)


def _measure_error_after(model: ModelProto, errors: dict[str, float]) -> dict[str, float]:
    """For each tensor the least that its error becomes in the nodes that follow."""
    after_norm, after = dict(errors), errors
    for _ in range(DISTANCE):
        after = _find_errors_after(model, after)
        after_norm = {
            name: min(error, after.get(name, error)) for name, error in after_norm.items()
        }
    return after_norm


def _find_errors_after(model: ModelProto, errors: dict[str, float]) -> dict[str, float]:
    """For each tensor the largest error among what is made of it."""
    after: dict[str, float] = {}
    for node in model.graph.node:
        largest = max((errors[name] for name in node.output if name in errors), default=0.0)
        for name in node.input:
            after[name] = max(after.get(name, 0.0), largest)
    return after


def _drop_repeats(rows: Sequence[LayerError]) -> list[LayerError]:
    """A node with several outputs is listed once, with its worst."""
    worst: dict[tuple[str, str], LayerError] = {}
    for row in rows:
        key = (row.graph, row.node)
        if key not in worst or row.error > worst[key].error:
            worst[key] = row
    return list(worst.values())
