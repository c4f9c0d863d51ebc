"""Names of the tensors of a served model: what a client sends and gets, and what the server keeps.

A bundle's step graph becomes a model that Triton can carry state for: its `has_history` is taken
from Triton's START, its `window` is a constant, and the state of the frame before is kept as well,
so that a client can take a step back.
"""

from __future__ import annotations

from relo_edge.contract import BATCH, TensorSpec, describe_graph
from relo_edge.spec import Variant

__all__ = [
    "CONTROLS",
    "HISTORY",
    "PARAMETER",
    "REWIND",
    "SCORE",
    "START",
    "STATE",
    "WINDOW",
    "list_inputs",
    "list_outputs",
    "list_states",
]

# Of the step graph.
STATE = "temporal_tokens"
HISTORY = "has_history"
WINDOW = "window"
SCORE = "score"

# Of the served model alone.
START = "start"
"""1 on a stream's first frame: the opposite of `has_history`, and [batch,1] as Triton has it."""
REWIND = "rewind"
"""1 where this step goes from the state before the last one."""
PARAMETER = "relo_edge"
"""The key in a model's configuration under which a client finds what it must know."""

CONTROLS = (STATE, HISTORY, WINDOW)
"""The step graph's inputs that no client sends."""


def list_inputs(variant: Variant) -> list[TensorSpec]:
    """What a client sends each frame."""
    step = describe_graph(variant, "step")
    sent = [spec for spec in step.inputs if spec.name not in CONTROLS]
    return [*sent, TensorSpec(REWIND, "float32", (BATCH, 1))]


def list_outputs(variant: Variant) -> list[TensorSpec]:
    """What a client gets; a score for each row, as Triton has no tensors without a shape."""
    step = describe_graph(variant, "step")
    given = [spec for spec in step.outputs if spec.name != f"{STATE}_out"]
    return [
        TensorSpec(spec.name, spec.dtype, (BATCH, 1)) if spec.name == SCORE else spec
        for spec in given
    ]


def list_states(variant: Variant, state_dtype: str) -> list[TensorSpec]:
    """What the server keeps of a stream: each is an input, and with `_out` an output."""
    shape = (BATCH, *variant.state_shape)
    return [TensorSpec(name, state_dtype, shape) for name in (STATE, f"{STATE}_before")]
