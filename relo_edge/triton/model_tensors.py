"""The tensors of a served model: what a client sends and gets, and what the server keeps.

A step graph becomes a model that Triton can carry state for: what is `fresh` is taken from Triton's
START, what is `shared` is a constant, and the state of the step before is kept as well, so that a
client can take a step back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from relo_edge.contract import BATCH, GraphContract, StateTensor, TensorSpec

__all__ = ["PARAMETER", "REWIND", "START", "list_inputs", "list_outputs", "list_states", "widen"]

START = "start"
"""1 on a stream's first frame: the opposite of what is `fresh`, and [batch,1] as Triton has it."""
REWIND = "rewind"
"""1 where this step goes from the state before the last one."""
PARAMETER = "relo_edge"
"""The key in a model's configuration under which a client finds what it must know."""


def list_inputs(step: GraphContract) -> list[TensorSpec]:
    """What a client sends each frame."""
    sent = [*step.list_inputs("pixels", "target")]
    return [*sent, TensorSpec(REWIND, "float32", (BATCH, 1))] if step.states else sent


def list_outputs(step: GraphContract) -> list[TensorSpec]:
    """What a client gets."""
    return list(widen(step.list_outputs("box", "score", "map")))


def widen(specs: Iterable[TensorSpec]) -> Iterable[TensorSpec]:
    """A number for each row is [batch,1]: Triton has no tensors without a shape."""
    for spec in specs:
        yield replace(spec, shape=(BATCH, 1)) if spec.shape == (BATCH,) else spec


def list_states(step: GraphContract) -> list[StateTensor]:
    """What the server keeps of a stream: the graph's states, and what each was a step before."""
    kept = []
    for state in step.states:
        name = f"{state.before.name}_before"
        before = replace(state.before, name=name, partner=f"{name}_out")
        kept += [state, StateTensor(before, replace(state.after, name=f"{name}_out"))]
    return kept
