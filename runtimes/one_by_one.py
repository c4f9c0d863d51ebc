"""What the CPU runtimes share: slots stepped one after another on graphs opened at batch 1.

On a CPU one target already fills the cores, and fixed shapes are the faster ones. Several callers
at once are quicker in lanes: each lane steps one slot on its caller's thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import (
    STEP,
    TEMPLATE,
    GraphContract,
    TensorSpec,
    describe_graph,
    list_graphs,
)
from relo_edge.errors import BundleError, InputError, ReloError
from relo_edge.last_step import LastStep
from relo_edge.runtime import ClosedOnExit, StepResult, check_slots, demand_open
from relo_edge.runtimes.lanes import Lanes
from relo_edge.spec import TrackerVariant

__all__ = ["Answer", "Array", "Feeds", "Slot", "SlotwiseRuntime", "find_target"]

LONGEST_REASON = 300
Array = NDArray[np.float32]
Feeds = dict[str, NDArray[Any]]
Answer = Mapping[str, Array]
"""A graph's outputs by name, at batch 1; the next step may overwrite them."""


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


def find_target(contract: GraphContract, name: str) -> TensorSpec:
    """The target tensor of that name, or a word on which there are."""
    for spec in contract.list_inputs("target"):
        if spec.name == name:
            return spec
    known = " | ".join(spec.name for spec in contract.list_inputs("target"))
    raise InputError("target tensor", found=name, expected=known or "none at all")


def _demand_shapes(found: Answer, expected: Sequence[TensorSpec]) -> None:
    """A graph may declare one shape and give another: numpy would spread it over the rest."""
    for spec in expected:
        shape = found[spec.name].shape
        if shape != spec.at_batch(1):
            raise ValueError(f"an output of shape {shape} in the place of {spec.at_batch(1)}")


class Slot:
    """One target's tensors and state; the two buffers of each state are used in turn."""

    def __init__(self, step: GraphContract) -> None:
        self.targets = {
            s.name: np.zeros(s.at_batch(1), s.dtype) for s in step.list_inputs("target")
        }
        self.states: list[Feeds] = [
            {s.before.name: np.zeros(s.before.at_batch(1), s.before.dtype) for s in step.states}
            for _ in range(2)
        ]
        self.has_history = np.zeros(1, np.float32)
        self.turn = 0

    @property
    def state(self) -> Feeds:
        """What the next step reads."""
        return self.states[self.turn]

    @property
    def next_state(self) -> Feeds:
        """What the next step writes."""
        return self.states[1 - self.turn]


class SlotwiseRuntime(ClosedOnExit, ABC):
    """The Runtime protocol over a template call and a step call for one slot.

    With `lanes` above 1, `step` may be called by several threads at once, for different slots.
    """

    name: str
    device = "cpu"

    def __init__(
        self, variant: TrackerVariant, batch: int, state_dtype: str, lanes: int = 1
    ) -> None:
        self.variant = variant
        self.batch = batch
        self.lanes = lanes
        self._turns = Lanes(lanes)
        self.contract = describe_graph(variant, STEP, state_dtype)
        self._made = describe_graph(variant, TEMPLATE) if TEMPLATE in list_graphs(variant) else None
        self._slots = [Slot(self.contract) for _ in range(batch)]
        self._last = LastStep()

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        """Keep what the template graph makes in its place in the slot."""
        kept = self._find(slot)
        if self._made is None:
            raise InputError(f"{self.variant.name} has no templates", fix="set its target tensors")
        picture, (given,) = self._made.pixels, self._made.list_inputs("given")
        with explain_failure(self.name, TEMPLATE):
            made = self._run_template({picture.name: template[None], given.name: box[None]})
            _demand_shapes(made, self._made.outputs)
        for name, part in made.items():
            rows = part.shape[1]
            kept.targets[name][:, index * rows : (index + 1) * rows] = part

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """Keep the tensor in the slot."""
        kept, spec = self._find(slot), find_target(self.contract, name)
        kept.targets[spec.name][0] = values

    def forget(self, slot: int) -> None:
        """The slot's next step is a first frame."""
        self._find(slot).has_history[0] = 0
        self._last.drop(slot)

    def rewind(self, slot: int) -> None:
        """Turn the slot back to the buffers that its last step read and left alone."""
        kept, had_history = self._find(slot), self._last.take_back(slot)
        kept.turn = 1 - kept.turn
        kept.has_history[0] = had_history

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: Array | None
    ) -> StepResult:
        """Localize the target of each slot and keep its new state."""
        demand_open(self.name, self._slots)
        plain = self.contract.list_outputs("box", "score", "map")
        answers = {s.name: np.empty(s.at_batch(len(slots)), np.float32) for s in plain}
        if self.lanes == 1:
            self._last.clear()
        for row, index in enumerate(slots):
            slot = self._find(index)
            self._last.drop(index)
            feeds = self._list_feeds(slot, pixels[row : row + 1], shared)
            with self._turns, explain_failure(self.name, STEP):
                answer = self._run_step(slot, feeds)
                _demand_shapes(answer, plain)
                for name, rows in answers.items():
                    rows[row] = answer[name][0]
            slot.turn = 1 - slot.turn
            self._last.note(index, slot.has_history[0])
            slot.has_history[0] = 1
        return StepResult.from_outputs(self.contract, answers)

    def read_state(self, slot: int) -> dict[str, Array]:
        """A copy of what the slot carries."""
        return {name: one[0].astype(np.float32) for name, one in self._find(slot).state.items()}

    def close(self) -> None:
        """Drop the buffers; what runs the graphs goes with the object."""
        self._slots.clear()

    def _find(self, slot: int) -> Slot:
        """Looked up before it is judged: another thread may close the runtime meanwhile."""
        slots = self._slots[:]
        demand_open(self.name, slots)
        check_slots([slot], len(slots))
        return slots[slot]

    def _list_feeds(self, slot: Slot, pixels: NDArray[np.uint8], shared: Array | None) -> Feeds:
        """What the step graph is fed: by role, whatever there is of each."""
        feeds: Feeds = {self.contract.pixels.name: pixels, **slot.targets, **slot.state}
        feeds |= {spec.name: slot.has_history for spec in self.contract.list_inputs("fresh")}
        if shared is not None:
            feeds |= {spec.name: shared for spec in self.contract.list_inputs("shared")}
        return feeds

    @abstractmethod
    def _run_template(self, feeds: Feeds) -> Answer:
        """What the template graph makes of one template."""

    @abstractmethod
    def _run_step(self, slot: Slot, feeds: Feeds) -> Answer:
        """Read the slot's state of this turn and write the other one."""
