"""Known mistakes with what comes out: logits, the chosen cell, the score and the box."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.mistakes import EXPLAINS, Explanation
from relo_edge.benchmarks.parity.paired_runtime import FramePair, Outputs
from relo_edge.benchmarks.parity.probes import ProbeStep, Stepper, run_script
from relo_edge.contract import GraphContract

__all__ = ["explain_box", "explain_cells", "explain_map", "explain_score"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _MapView:
    """One step's logits and the windows that might have been used."""

    logits: Array
    window: Array
    before: Array
    """The window of the step before."""
    protocol: Array
    """The protocol's own."""

    @property
    def windowed(self) -> Array:
        return self.logits * self.window

    @property
    def cell(self) -> int:
        return int(np.argmax(self.windowed))


@dataclass(frozen=True)
class _BoxView:
    """The reference's box in the parts that it is made of."""

    box: Array
    corner: Array
    """Column and row of the cell."""
    grid: int

    @property
    def offset(self) -> Array:
        return self.box[:2] * self.grid - self.corner

    @property
    def size(self) -> Array:
        return self.box[2:]

    def build(self, offset: Array, size: Array) -> Array:
        """A box of other parts in the same cell."""
        return np.concatenate([(self.corner + offset) / self.grid, size])


def explain_map(pairs: Sequence[FramePair]) -> Explanation | None:
    """Logits that are the right ones, changed after the network."""
    wants = [_read_map(pair, "reference") for pair in pairs]
    gots = [_read_map(pair, "candidate") for pair in pairs]
    windows = [_read_window(pair.window) for pair in pairs]
    error = _measure_largest(wants, gots)
    changes: dict[str, list[Array]] = {
        "the window is applied to them": [w * v for w, v in zip(wants, windows, strict=True)],
        **{what: [change(want) for want in wants] for what, change in MAP_CHANGES.items()},
    }
    scale = sum(float((w * g).sum()) for w, g in zip(wants, gots, strict=True)) / max(
        sum(float((w * w).sum()) for w in wants), 1e-24
    )
    changes[f"they are {scale:.4g} times the right ones"] = [scale * want for want in wants]
    shift = float(np.mean([(g - w).mean() for w, g in zip(wants, gots, strict=True)]))
    changes[f"{shift:.4g} is added to each"] = [want + shift for want in wants]
    top = max(float(got.max()) for got in gots)
    changes[f"they are clamped at {top:.4g}"] = [np.minimum(want, top) for want in wants]
    left = {what: _measure_largest(made, gots) for what, made in changes.items()}
    return _choose("policy logits", error, left)


def explain_score(steps: Sequence[ProbeStep], pairs: Sequence[FramePair]) -> Explanation | None:
    """Scores that are made of the right logits in another way."""
    got = np.array([float(pair.candidate["score"][0]) for pair in pairs])
    views = _list_views(steps, pairs, "candidate")
    right = np.array([float(view.windowed.max()) for view in views])
    rules = {
        what: np.array([float(rule(view)) for view in views]) for what, rule in SCORE_RULES.items()
    }
    for what, value in CELL_RULES.items():
        rules.setdefault(what, np.array([float(value(view).max()) for view in views]))
    ratio = float(np.median(got / right)) if right.all() else 1.0
    rules[f"it is {ratio:.4g} times the windowed logit"] = ratio * right
    rules["it is that of the frame before"] = np.append(got[0], right[:-1])
    left = {what: float(np.abs(made - got).max()) for what, made in rules.items()}
    return _choose("score", float(np.abs(right - got).max()), left)


def explain_cells(
    contract: GraphContract,
    reference: Stepper,
    steps: Sequence[ProbeStep],
    pairs: Sequence[FramePair],
    likely: Sequence[str],
) -> Explanation | None:
    """Boxes that are those of other cells: asked from the reference, cell by cell.

    Where several rules choose the same cells, one that explains the scores is taken.
    """
    views = _list_views(steps, pairs, "reference")
    right = tuple(view.cell for view in views)
    cells: dict[tuple[int, ...], str] = {}
    for what in [*likely, *CELL_RULES]:
        if what in CELL_RULES:
            chosen = tuple(int(np.argmax(CELL_RULES[what](view))) for view in views)
            cells.setdefault(chosen, what)
    grid = len(_read_window(pairs[0].window))
    moves = {
        "the next cell to the right is read": [cell + 1 for cell in right],
        "the next cell to the left is read": [cell - 1 for cell in right],
        "the next cell below is read": [cell + grid for cell in right],
        "the chosen cell's row and column are swapped": [
            (cell % grid) * grid + cell // grid for cell in right
        ],
    }
    for what, moved in moves.items():
        cells.setdefault(tuple(cell % grid**2 for cell in moved), what)
    error = max(pair.measure_error("box") for pair in pairs)
    left = {}
    for row, what in cells.items():
        if row == right:
            continue
        left[what] = 0.0
        for pair, answer in zip(
            pairs, _ask_cells(contract, reference, steps, pairs, row), strict=True
        ):
            wrong = float(np.abs(answer["box"] - pair.candidate["box"]).max())
            left[what] = max(left[what], wrong)
            if not left[what] < error / EXPLAINS:
                break
    return _choose("window", error, left)


def explain_box(pairs: Sequence[FramePair]) -> Explanation | None:
    """Boxes of the right cells, made of their parts in another way."""
    agreed = [pair for pair in pairs if pair.same_cell]
    if not agreed:
        return None
    error = max(pair.measure_error("box") for pair in agreed)
    wants = [pair.reference["box"].astype(np.float64) for pair in agreed]
    gots = np.array([pair.candidate["box"].astype(np.float64) for pair in agreed])
    grid = len(_read_window(agreed[0].window))
    views = [
        _BoxView(want, np.array(divmod(pair.reference_cell, grid)[::-1]), grid)
        for want, pair in zip(wants, agreed, strict=True)
    ]
    left = {
        what: _measure_boxes([change(view) for view in views], gots)
        for what, change in BOX_CHANGES.items()
    }
    right = np.array(wants)
    left |= _fit_boxes(right, gots)
    left["it is that of the frame before"] = _measure_boxes([gots[0], *wants[:-1]], gots)
    return _choose("box", error, left)


def _fit_boxes(right: Array, gots: Array) -> dict[str, float]:
    """Factors, shifts and limits that are read from the boxes themselves."""
    made = {}
    for name, part in (("the size", slice(2, 4)), ("the centre", slice(0, 2)), ("it", slice(0, 4))):
        factor = float(np.median(gots[:, part] / right[:, part]))
        wrong = right.copy()
        wrong[:, part] *= factor
        made[f"{name} is {factor:.4g} times the right one"] = wrong
        shift = float(np.median(gots[:, part] - right[:, part]))
        wrong = right.copy()
        wrong[:, part] += shift
        made[f"{shift:.4g} is added to {name}"] = wrong
    top, low = float(gots[:, 2:].max()), float(gots[:, 2:].min())
    for what, limits in {
        f"the size is clamped at {top:.4g}": (0.0, top),
        f"the size is at least {low:.4g}": (low, 1.0),
    }.items():
        wrong = right.copy()
        wrong[:, 2:] = wrong[:, 2:].clip(*limits)
        made[what] = wrong
    return {what: _measure_boxes(list(wrong), gots) for what, wrong in made.items()}


def _list_views(
    steps: Sequence[ProbeStep],
    pairs: Sequence[FramePair],
    side: Literal["reference", "candidate"],
) -> list[_MapView]:
    protocol = next(_read_window(step.window) for step in steps if step.plain_window)
    views, before = [], protocol
    for pair in pairs:
        window = _read_window(pair.window)
        views.append(_MapView(_read_map(pair, side), window, before, protocol))
        before = window
    return views


def _read_map(pair: FramePair, side: Literal["reference", "candidate"]) -> Array:
    outputs: Outputs = getattr(pair, side)
    assert pair.cells is not None
    return outputs[pair.cells].astype(np.float64)


def _read_window(window: NDArray[np.float32] | None) -> Array:
    """Where there is a map there is a window."""
    assert window is not None
    return window.astype(np.float64)


def _ask_cells(
    contract: GraphContract,
    reference: Stepper,
    steps: Sequence[ProbeStep],
    pairs: Sequence[FramePair],
    cells: Sequence[int],
) -> Iterator[Outputs]:
    """What the reference says of these cells: a window that leaves nothing else makes it choose."""
    forced = []
    for step, pair, cell in zip(steps, pairs, cells, strict=True):
        window = np.zeros_like(_read_window(step.window), np.float32)
        logit = _read_map(pair, "reference").flat[cell]
        window.flat[cell] = 1 if logit > 0 else -1
        forced.append(replace(step, window=window))
    return run_script(contract, reference, forced)


def _choose(part: str, error: float, left: dict[str, float]) -> Explanation | None:
    finite = {what: rest for what, rest in left.items() if np.isfinite(rest)}
    if not finite:
        return None
    best = min(finite, key=lambda what: finite[what])
    if not finite[best] < error / EXPLAINS:
        return None
    return Explanation(part, best, error, finite[best])


def _measure_largest(made: Sequence[Array], gots: Sequence[Array]) -> float:
    return max(float(np.abs(m - g).max()) for m, g in zip(made, gots, strict=True))


def _measure_boxes(made: Sequence[Array], gots: Array) -> float:
    return float(np.abs(np.array(made) - gots).max())


def _sigmoid(values: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-values)))


def _logit(values: Array) -> Array:
    return np.asarray(np.log(values / (1 - values)))


def _softmax(values: Array) -> Array:
    weights = np.exp(values - values.max())
    return np.asarray(weights / weights.sum())


def _second_best(values: Array) -> Array:
    others = values.copy()
    others.flat[int(np.argmax(values))] = -np.inf
    return others


MAP_CHANGES: dict[str, Callable[[Array], Array]] = {
    "softmax is taken of them": _softmax,
    "sigmoid is taken of them": _sigmoid,
    "rows and columns are swapped": np.transpose,
    "mirrored": lambda m: m[:, ::-1],
    "upside down": lambda m: m[::-1],
    "negative ones are cut off": lambda m: m.clip(0),
    "their sign is flipped": lambda m: -m,
    "their mean is taken off": lambda m: m - m.mean(),
    "rounded to whole numbers": np.round,
}

SCORE_RULES: dict[str, Callable[[_MapView], float]] = {
    "it is the chosen cell's raw logit": lambda v: v.logits.flat[v.cell],
    "sigmoid is taken of it": lambda v: _sigmoid(v.windowed).max(),
    "it is the softmax's probability": lambda v: _softmax(v.windowed).max(),
    "it is the probability of the raw logits": lambda v: _softmax(v.logits).max(),
    "it is the map's mean": lambda v: v.logits.mean(),
    "it is the windowed map's mean": lambda v: v.windowed.mean(),
    "it is the second best cell's": lambda v: _second_best(v.windowed).max(),
    "it is the window's own value": lambda v: v.window.flat[v.cell],
    "it is always zero": lambda v: 0 * v.window.flat[0],
}

CELL_RULES: dict[str, Callable[[_MapView], Array]] = {
    "the window is left out": lambda v: v.logits,
    "the window is applied twice": lambda v: v.windowed * v.window,
    "the window is added, not multiplied": lambda v: v.logits + v.window,
    "the window's rows and columns are swapped": lambda v: v.logits * v.window.T,
    "the window is mirrored": lambda v: v.logits * v.window[:, ::-1],
    "the window is upside down": lambda v: v.logits * v.window[::-1],
    "another window than the one given: the protocol's": lambda v: v.logits * v.protocol,
    "another window than the one given: that of the step before": lambda v: v.logits * v.before,
    "the window is applied to probabilities": lambda v: _softmax(v.logits) * v.window,
    "the window is applied to sigmoids": lambda v: _sigmoid(v.logits) * v.window,
    "the square root of the window is applied": lambda v: v.logits * np.sqrt(v.window),
    "the cell is chosen from the window alone": lambda v: v.window,
    "the least cell is chosen": lambda v: -v.windowed,
    "the second best cell is chosen": lambda v: _second_best(v.windowed),
}

BOX_CHANGES: dict[str, Callable[[_BoxView], Array]] = {
    "the size and offset maps are swapped": lambda v: v.build(v.size, v.offset),
    # Swapped before the size's sigmoid.
    "the size and offset heads are swapped": lambda v: v.build(_logit(v.size), _sigmoid(v.offset)),
    "width and height are swapped": lambda v: v.box[[0, 1, 3, 2]],
    "x and y are swapped": lambda v: v.box[[1, 0, 2, 3]],
    "the offsets in x and y are swapped": lambda v: v.build(v.offset[::-1], v.size),
    "rows and columns of the grid are swapped": lambda v: v.build(
        v.offset + v.corner[::-1] - v.corner, v.size
    ),
    "x and y are the corner, not the centre": lambda v: np.append(v.box[:2] - v.size / 2, v.size),
    "left, top, right, bottom in place of cx, cy, w, h": lambda v: np.append(
        v.box[:2] - v.size / 2, v.box[:2] + v.size / 2
    ),
    "the offsets are left out": lambda v: v.build(0 * v.offset, v.size),
    "the offsets are taken from the cell's middle": lambda v: v.build(v.offset + 0.5, v.size),
    "the offsets are clamped from 0 to 1": lambda v: v.build(v.offset.clip(0, 1), v.size),
    "the offsets go through a sigmoid": lambda v: v.build(_sigmoid(v.offset), v.size),
    "the offsets' sign is flipped": lambda v: v.build(-v.offset, v.size),
    "the offsets are not divided by the grid": lambda v: v.build(v.offset * v.grid, v.size),
    "the grid is counted one short": lambda v: np.append(v.box[:2] * v.grid / (v.grid - 1), v.size),
    "the size's sigmoid is left out": lambda v: v.build(v.offset, _logit(v.size)),
    "the size's sigmoid is applied twice": lambda v: v.build(v.offset, _sigmoid(v.size)),
    "the size is squared": lambda v: v.build(v.offset, v.size**2),
    "the exponential is taken of the size": lambda v: v.build(v.offset, np.exp(v.size)),
}
