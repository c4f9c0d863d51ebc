"""Why a candidate is not the same tracker: the frames tell the part, experiments the mistake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.parity.mistakes import EXPLAINS, explain_pixels
from relo_edge.benchmarks.parity.paired_runtime import FramePair, TwinRuntime
from relo_edge.measures.gates import Gate, judge_outputs
from relo_edge.measures.tensor_errors import ErrorTally

__all__ = ["Cause", "find_causes"]

Array = NDArray[np.float64]
BoxMistake = Callable[[Array, Array, int], Array]
"""The reference's box, its cell's corner (column, row) and the grid → the box by mistake."""


@dataclass(frozen=True)
class Cause:
    """What a failure comes from."""

    part: str
    what: str
    error: float | None = None
    """The error that was found."""
    left: float | None = None
    """What is left of it when the reference makes the same mistake."""

    def describe(self) -> str:
        """A line."""
        line = f"  {self.part}: {self.what}"
        if self.error is None or self.left is None:
            return line
        return (
            f"{line} (the same mistake in the reference: error {self.error:.1e} → {self.left:.1e})"
        )


def find_causes(twin: TwinRuntime, gate: Gate) -> tuple[Cause, ...]:
    """What the frames of a failed rollout point to; the reference is asked a few times more."""
    broken = next((i for i, note in enumerate(twin.notes) if not note.finite), None)
    if broken is not None:
        what = f"an output is not finite in frame {broken + 1}: an overflow, or a broken kernel"
        return (Cause("numbers", what),)
    if _differs(twin.first, "policy_logits", gate):
        return (_judge_inputs(twin),)
    first = [pair for pair in twin.pairs if pair.fresh]
    causes = [*_judge_state(twin, gate), *_judge_boxes(first, gate)]
    if causes:
        return tuple(causes)
    what = "outputs agree on the same crops; small differences decide between cells of like value"
    return (Cause("near ties", what),)


def _differs(tallies: Mapping[str, ErrorTally], name: str, gate: Gate) -> bool:
    """Whether an output is beyond the gate in these frames."""
    return name in tallies and bool(judge_outputs(gate, {name: tallies[name].sum_up()}))


def _judge_inputs(twin: TwinRuntime) -> Cause:
    """The first frame is wrong already: pixels, or weights."""
    found = explain_pixels(twin)
    if found is not None:
        return Cause(*found)
    what = (
        "wrong from the first frame on, and no known mistake with pixels explains it: "
        "other weights, an odd normalisation or a layer at fault; --layers shows where it is born"
    )
    return Cause("weights", what)


def _judge_state(twin: TwinRuntime, gate: Gate) -> list[Cause]:
    """The first frame has no history; what is wrong only after it comes from the state."""
    if not any(pair.candidate["temporal_tokens"].any() for pair in twin.pairs):
        return [Cause("temporal state", "all zeros: what the graph gives out is not kept")]
    if _differs(twin.first, "temporal_tokens", gate):
        what = "the first frame's logits agree, the state that it leaves behind does not"
        return [Cause("temporal state", what)]
    if not any(_differs(twin.later, name, gate) for name in ("policy_logits", "temporal_tokens")):
        return []
    before, after = _measure_memoryless(twin)
    if after < before / EXPLAINS:
        what = "every frame is computed as a first frame: the history does not arrive"
        return [Cause("temporal state", what, before, after)]
    what = "the first frame agrees, later ones do not: the state is lost or mixed up on the way"
    return [Cause("temporal state", what)]


def _measure_memoryless(twin: TwinRuntime) -> tuple[float, float]:
    """The second frame's error, and what is left when the reference forgets before it."""
    later = [(c, p) for c, p in zip(twin.steps, twin.pairs, strict=False) if not c.fresh]
    if not later:
        return 0.0, 0.0
    call, pair = later[0]
    for template in twin.templates:
        twin.reference.encode_template(*template)
    twin.reference.forget(call.slots[0])
    answer = twin.reference.step(call.slots, call.crops, call.window)
    got, largest = pair.candidate["policy_logits"], np.abs(pair.reference["policy_logits"]).max()
    left = float(np.abs(answer.policy_logits[0] - got).max() / largest)
    return pair.measure_error("policy_logits"), left


def _judge_boxes(pairs: Sequence[FramePair], gate: Gate) -> list[Cause]:
    """Boxes that are wrong although the same cell is chosen: the maps, or how they are read."""
    agreed = [pair for pair in pairs if pair.agrees()]
    before = max((pair.measure_error("box") for pair in agreed), default=0.0)
    if before <= gate.box:
        return []
    if all(_ignores_window(pair) for pair in agreed):
        return [Cause("window", "the cell is chosen from the logits without the window")]
    errors = {
        name: max(_measure_mistake(pair, mistake) for pair in agreed)
        for name, mistake in BOX_MISTAKES.items()
    }
    best = min(errors, key=lambda name: errors[name])
    if errors[best] < before / EXPLAINS:
        return [Cause("box", best, before, errors[best])]
    return [Cause("box", "logits agree, boxes do not: the size or offset head, or their decoding")]


def _ignores_window(pair: FramePair) -> bool:
    score, logits = pair.candidate["score"][0], pair.candidate["policy_logits"]
    raw, windowed = float(logits.max()), float((logits * pair.window).max())
    return bool(abs(score - raw) < abs(score - windowed) / EXPLAINS)


def _measure_mistake(pair: FramePair, mistake: BoxMistake) -> float:
    grid = pair.window.shape[0]
    row, column = divmod(pair.choose_cells()[0], grid)
    wrong = mistake(pair.reference["box"].astype(np.float64), np.array([column, row]), grid)
    return float(np.abs(wrong - pair.candidate["box"]).max())


def _swap_maps(box: Array, corner: Array, grid: int) -> Array:
    return np.concatenate([(corner + box[2:]) / grid, box[:2] * grid - corner])


def _swap_heads(box: Array, corner: Array, grid: int) -> Array:
    """Swapped before the size's sigmoid."""
    offset, size = box[:2] * grid - corner, box[2:]
    raw = np.log(size / (1 - size))
    return np.concatenate([(corner + raw) / grid, 1 / (1 + np.exp(-offset))])


def _swap_offsets(box: Array, corner: Array, grid: int) -> Array:
    offset = box[:2] * grid - corner
    return np.concatenate([(corner + offset[::-1]) / grid, box[2:]])


def _swap_axes(box: Array, corner: Array, grid: int) -> Array:
    offset = box[:2] * grid - corner
    return np.concatenate([(corner[::-1] + offset) / grid, box[2:]])


BOX_MISTAKES: dict[str, BoxMistake] = {
    "the size and offset maps are swapped": _swap_maps,
    "the size and offset heads are swapped": _swap_heads,
    "width and height are swapped": lambda box, *_: box[[0, 1, 3, 2]],
    "the offsets in x and y are swapped": _swap_offsets,
    "rows and columns of the grid are swapped": _swap_axes,
    "x and y are the corner, not the centre": lambda box, *_: np.append(
        box[:2] - box[2:] / 2, box[2:]
    ),
    "the offsets are left out": lambda box, corner, grid: np.append(corner / grid, box[2:]),
}
