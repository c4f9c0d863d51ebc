"""Known mistakes with what is kept from frame to frame: temporal tokens and templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.mistakes import Mistake, State, StateRule
from relo_edge.contract import GraphContract

__all__ = ["list_state_mistakes"]

Array = NDArray[np.float32]
PART = "temporal state"


def list_state_mistakes(contract: GraphContract) -> Iterator[Mistake]:
    """Which state arrives when, in which order and with which numbers; none without a state."""
    yield Mistake("template", "a new template is not taken over", delays_update=True)
    yield Mistake("template", "a template is only ever set once", keeps_first_template=True)
    if not contract.states:
        return
    yield Mistake("rewind", "a step is not taken back", skips_rewind=True)
    yield Mistake(
        PART, "the history does not arrive: every frame is a first frame", state=lambda *_: None
    )
    befores = [state.before for state in contract.states]
    zeros = {spec.name: np.zeros(spec.at_batch(1)[1:], np.float32) for spec in befores}
    for what, rule in _name_timings(zeros).items():
        yield Mistake(PART, what, state=rule)
    for what, change in _name_changes(zeros).items():
        yield Mistake(PART, what, state=_change_last(change))
    for one, other in combinations(zeros, 2):
        if zeros[one].shape == zeros[other].shape:
            yield Mistake(PART, f"{one} and {other} are swapped", state=_swap_tensors(one, other))


def _name_timings(zeros: State) -> dict[str, StateRule]:
    return {
        "zeros arrive in place of the history": lambda past, _: zeros if past else None,
        "a first frame is given zeros as its history": lambda past, _: past[-1] if past else zeros,
        "forget is ignored: a new target has the history of the one before": (
            lambda _, every: every[-1] if every else None
        ),
        "stale: the history is that of one frame earlier": lambda past, _: (
            past[-2] if len(past) > 1 else zeros if past else None
        ),
        "stale: the history is that of one frame earlier, none in the second frame": (
            lambda past, _: past[-2] if len(past) > 1 else None
        ),
        "stale: the first frame's state is never renewed": lambda past, _: (
            past[0] if past else None
        ),
    }


def _name_changes(zeros: State) -> dict[str, Callable[[Array], Array]]:
    """A state of three dimensions is one of layers and tokens."""
    depths = {values.shape[0] for values in zeros.values() if values.ndim == 3}
    layered: dict[str, Callable[[Array], Array]] = {
        "the order of its layers is reversed": lambda s: s[::-1].copy(),
        "its layers arrive one place late": lambda s: np.roll(s, 1, axis=0),
        "its layers arrive one place early": lambda s: np.roll(s, -1, axis=0),
        "the order of its tokens is reversed": lambda s: s[:, ::-1].copy(),
        "its layers and tokens are swapped": lambda s: s.transpose(1, 0, 2).reshape(s.shape).copy(),
    }
    changes: dict[str, Callable[[Array], Array]] = layered if depths else {}
    changes |= {
        "kept in half precision": lambda s: s.astype(np.float16).astype(np.float32),
        "kept in bfloat16": _round_bfloat16,
        "its sign is flipped": lambda s: -s,
        "it is 1.1 times too large": lambda s: np.float32(1.1) * s,
        "it is twice too large": lambda s: np.float32(2) * s,
        "it is half as large": lambda s: np.float32(0.5) * s,
    }
    depth = max(depths, default=0)
    for layer in range(depth):
        changes[f"layer {layer} of {depth} is missing"] = _drop_layer(layer)
    for layer in range(depth - 1):
        changes[f"layers {layer} and {layer + 1} are swapped"] = _swap_layers(layer)
    return changes


def _change_last(change: Callable[[Array], Array]) -> StateRule:
    return lambda past, _: {n: change(s) for n, s in past[-1].items()} if past else None


def _swap_tensors(one: str, other: str) -> StateRule:
    def rule(past: list[State], _: list[State]) -> State | None:
        last = past[-1] if past else None
        return last and {**last, one: last[other], other: last[one]}

    return rule


def _drop_layer(layer: int) -> Callable[[Array], Array]:
    def change(state: Array) -> Array:
        kept = state.copy()
        kept[layer] = 0
        return kept

    return change


def _swap_layers(layer: int) -> Callable[[Array], Array]:
    def change(state: Array) -> Array:
        kept = state.copy()
        kept[[layer, layer + 1]] = kept[[layer + 1, layer]]
        return kept

    return change


def _round_bfloat16(state: Array) -> Array:
    bits = np.ascontiguousarray(state, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    kept: Array = rounded.astype(np.uint32).view(np.float32)
    return kept
