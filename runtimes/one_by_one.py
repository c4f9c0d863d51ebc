"""What the CPU runtimes share: slots stepped one after another on graphs opened at batch 1.

On a CPU one target already fills the cores, and fixed shapes are the faster ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import BundleError, ReloError
from relo_edge.runtime import ClosedOnExit, LastStep, StepResult, check_slots, demand_open
from relo_edge.spec import Variant

__all__ = ["Answer", "Slot", "SlotwiseRuntime"]

LONGEST_REASON = 300
Array = NDArray[np.float32]
Answer = tuple[Array, Array, Array]
"""box [1,4], score [1], policy_logits [1,grid,grid]; the next step may overwrite them."""


@contextmanager
def explain_failure(runtime: str, graph: str) -> Iterator[None]:
    """Turn what a library raises inside a graph, by classes of its own, into one line."""
    try:
        yield
    except ReloError:
        raise
    except Exception as error:
        what = f"{runtime} failed inside the {graph} graph"
        fix = "`relo-edge inspect` says whether the bundle is as published"
        raise BundleError(what, found=str(error)[:LONGEST_REASON] or error, fix=fix) from None


def _demand_shapes(found: Sequence[Array], expected: Sequence[tuple[int, ...]]) -> None:
    """A graph may declare one shape and give another: numpy would spread it over the rest."""
    for array, shape in zip(found, expected, strict=True):
        if array.shape != shape:
            raise ValueError(f"an output of shape {array.shape} in the place of {shape}")


class Slot:
    """One target's templates and temporal state; the two state buffers are used in turn."""

    def __init__(self, variant: Variant, state_dtype: str) -> None:
        self.templates = np.zeros((1, variant.template_tokens, variant.width), np.float32)
        shape = (1, *variant.state_shape)
        self.states = [np.zeros(shape, state_dtype) for _ in range(2)]
        self.has_history = np.zeros(1, np.float32)
        self.turn = 0


class SlotwiseRuntime(ClosedOnExit, ABC):
    """The Runtime protocol over a template call and a step call for one slot."""

    name: str
    device = "cpu"

    def __init__(self, variant: Variant, batch: int, state_dtype: str) -> None:
        self.variant = variant
        self.batch = batch
        self._slots = [Slot(variant, state_dtype) for _ in range(batch)]
        self._last = LastStep()

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        """Keep the template's tokens in the slot."""
        rows = self.variant.tokens_per_template
        place = slice(index * rows, (index + 1) * rows)
        kept = self._find(slot)
        with explain_failure(self.name, "template"):
            tokens = self._run_template(template[None], box[None])
            _demand_shapes((tokens,), ((1, rows, self.variant.width),))
        kept.templates[:, place] = tokens

    def forget(self, slot: int) -> None:
        """The slot's next step is a first frame."""
        self._find(slot).has_history[0] = 0
        self._last.drop(slot)

    def rewind(self, slot: int) -> None:
        """Turn the slot back to the buffer that its last step read and left alone."""
        kept, had_history = self._find(slot), self._last.take_back(slot)
        kept.turn = 1 - kept.turn
        kept.has_history[0] = had_history

    def step(self, slots: Sequence[int], searches: NDArray[np.uint8], window: Array) -> StepResult:
        """Localize one search crop for each slot and keep its new state."""
        demand_open(self.name, self._slots)
        count, grid = len(slots), self.variant.grid
        boxes, scores = np.empty((count, 4), np.float32), np.empty(count, np.float32)
        logits = np.empty((count, grid, grid), np.float32)
        self._last.clear()
        for row, index in enumerate(slots):
            slot = self._find(index)
            with explain_failure(self.name, "step"):
                box, score, policy = self._run_step(slot, searches[row : row + 1], window)
                _demand_shapes((box, score, policy), ((1, 4), (1,), (1, grid, grid)))
            slot.turn = 1 - slot.turn
            self._last.note(index, slot.has_history[0])
            slot.has_history[0] = 1
            boxes[row], scores[row], logits[row] = box[0], score[0], policy[0]
        return StepResult(boxes, scores, logits)

    def read_state(self, slot: int) -> Array:
        """A copy of the slot's temporal tokens."""
        kept = self._find(slot)
        state: Array = kept.states[kept.turn][0].astype(np.float32)
        return state

    def close(self) -> None:
        """Drop the buffers; what runs the graphs goes with the object."""
        self._slots.clear()

    def _find(self, slot: int) -> Slot:
        """Looked up before it is judged: another thread may close the runtime meanwhile."""
        slots = self._slots[:]
        demand_open(self.name, slots)
        check_slots([slot], len(slots))
        return slots[slot]

    @abstractmethod
    def _run_template(self, template: NDArray[np.uint8], box: Array) -> Array:
        """Tokens [1,·,C] of one template."""

    @abstractmethod
    def _run_step(self, slot: Slot, search: NDArray[np.uint8], window: Array) -> Answer:
        """Read the slot's state of this turn and write the other one."""
