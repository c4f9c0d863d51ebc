"""The reference network as a runtime: what every other runtime is measured against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import STEP, TEMPLATE, describe_graph, list_graphs
from relo_edge.errors import InputError, MissingDependency
from relo_edge.families.registry import find_family
from relo_edge.host.files import hash_file
from relo_edge.last_step import LastStep
from relo_edge.runtime import (
    ClosedOnExit,
    RuntimeRequest,
    StepResult,
    check_slots,
    demand_open,
)
from relo_edge.runtimes.one_by_one import find_target
from relo_edge.spec import TrackerVariant

if TYPE_CHECKING:
    from torch import Tensor

    from relo_edge.network.checkpoint import Checkpoint

__all__ = ["PytorchRuntime", "find_checkpoint", "open_runtime"]


def open_runtime(request: RuntimeRequest) -> PytorchRuntime:
    """Open as asked: the weights of the checkpoint given, or of the one the bundle came from."""
    request.choose_precision("fp32")
    try:
        import torch
    except ImportError as error:
        raise MissingDependency(
            "torch does not import", found=error, fix="`pip install 'relo-edge[export]'`"
        ) from None
    checkpoint = find_checkpoint(request)
    return PytorchRuntime(
        checkpoint.variant,
        checkpoint.weights,
        batch=request.batch,
        device="cuda" if torch.cuda.is_available() else "cpu",
        threads=request.threads,
    )


def find_checkpoint(request: RuntimeRequest) -> Checkpoint:
    """The weights asked for, or those that the bundle was exported from."""
    from relo_edge.network.checkpoint import read_checkpoint
    from relo_edge.network.demo import find_demo_checkpoint

    if request.checkpoint is not None:
        asked = request.bundle.variant.name if request.source is not None else None
        return read_checkpoint(Path(request.checkpoint), asked)
    if str(request.source) == "demo":
        return read_checkpoint(find_demo_checkpoint())
    bundle = request.bundle
    path = Path(bundle.manifest["checkpoint"]["path"])
    fix = "name the checkpoint with --checkpoint"
    if not path.is_file():
        raise InputError(f"{bundle.path}'s checkpoint", found=f"nothing at {path}", fix=fix)
    if hash_file(path) != bundle.manifest["checkpoint"]["sha256"]:
        raise InputError(f"{path}", found="other weights than the bundle's", fix=fix)
    return read_checkpoint(path, bundle.variant.name)


class PytorchRuntime(ClosedOnExit):
    """Runs the network eagerly in float32, on the CPU or the first CUDA device."""

    name = "pytorch"
    precision = "fp32"

    def __init__(
        self,
        variant: TrackerVariant,
        weights: Mapping[str, Tensor],
        *,
        batch: int = 1,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        import torch

        if threads:
            torch.set_num_threads(threads)
        self.variant = variant
        self.batch = batch
        self.device = device
        self._torch = torch
        self._network = find_family(variant.family).build_network(variant, weights)
        self._network.module.to(device)
        self.contract = step = describe_graph(variant, STEP)
        self._targets = {
            s.name: torch.zeros(s.at_batch(batch), device=device)
            for s in step.list_inputs("target")
        }
        # Used in turn, each slot on its own, so that a step can be taken back.
        self._states = {
            s.before.name: torch.zeros((2, *s.before.at_batch(batch)), device=device)
            for s in step.states
        }
        self._turns = [0] * batch
        self._has_history = np.zeros(batch, np.float32)
        self._last = LastStep()

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        """Keep what the network makes of it in its place in the slot."""
        self._check([slot])
        if TEMPLATE not in list_graphs(self.variant):
            raise InputError(f"{self.variant.name} has no templates", fix="set its target tensors")
        with self._torch.inference_mode(), self._without_tf32():
            made = self._network.encode_template(self._send(template[None]), self._send(box[None]))
            for name, part in made.items():
                rows = part.shape[1]
                self._targets[name][slot, index * rows : (index + 1) * rows] = part[0]

    def set_target(self, slot: int, name: str, values: NDArray[np.float32]) -> None:
        """Keep the tensor in the slot."""
        self._check([slot])
        self._targets[find_target(self.contract, name).name][slot] = self._send(values)

    def forget(self, slot: int) -> None:
        """The slot's next step is a first frame."""
        self._check([slot])
        self._has_history[slot] = 0
        self._last.drop(slot)

    def rewind(self, slot: int) -> None:
        """Turn the slot back to the buffer that its last step read and left alone."""
        self._check([slot])
        self._has_history[slot] = self._last.take_back(slot)
        self._turns[slot] = 1 - self._turns[slot]

    def step(
        self,
        slots: Sequence[int],
        pixels: NDArray[np.uint8],
        shared: NDArray[np.float32] | None,
    ) -> StepResult:
        """Localize the target of each slot and keep its new state."""
        rows = list(slots)
        self._check(rows)
        turns = [self._turns[row] for row in rows]
        had_history = self._has_history[rows]
        self._last.clear()
        with self._torch.inference_mode(), self._without_tf32():
            feeds = self._list_feeds(rows, pixels, shared)
            feeds |= {name: state[turns, rows] for name, state in self._states.items()}
            answer = self._network.step(feeds)
            for state in self.contract.states:
                other = [1 - turn for turn in turns], rows
                self._states[state.before.name][other] = answer[state.after.name]
            for row, turn, had in zip(rows, turns, had_history, strict=True):
                self._turns[row] = 1 - turn
                self._last.note(row, had)
            self._has_history[rows] = 1
            plain = self.contract.list_outputs("box", "score", "map")
            told = {spec.name: answer[spec.name].cpu().numpy() for spec in plain}
            return StepResult.from_outputs(self.contract, told)

    def read_state(self, slot: int) -> dict[str, NDArray[np.float32]]:
        """A copy of what the slot carries."""
        self._check([slot])
        turn = self._turns[slot]
        return {name: s[turn, slot].cpu().numpy().copy() for name, s in self._states.items()}

    def write_state(self, slot: int, state: Mapping[str, NDArray[np.float32]]) -> None:
        """Give the slot this history, whatever it had: for a diagnosis that makes mistakes."""
        demand_open(self.name, self._turns)
        for name, values in state.items():
            self._states[name][self._turns[slot], slot] = self._send(values)
        self._has_history[slot] = 1
        self._last.drop(slot)

    def compile_network(self) -> None:
        """Let torch.compile have the network; the next frames take as long as it needs."""
        self.name = "pytorch-compile"
        self._network.module.compile()

    def close(self) -> None:
        """Give up weights and buffers, so that a GPU has their memory back."""
        self._turns.clear()
        self._last.clear()
        for held in ("_network", "_targets", "_states"):
            self.__dict__.pop(held, None)

    @contextmanager
    def _without_tf32(self) -> Iterator[None]:
        """A reference in float32: by default, CUDA's convolutions round their inputs to TF32."""
        backends = self._torch.backends
        switches = (backends.cudnn, backends.cuda.matmul)
        before = [switch.allow_tf32 for switch in switches]
        for switch in switches:
            switch.allow_tf32 = False
        try:
            yield
        finally:
            for switch, allowed in zip(switches, before, strict=True):
                switch.allow_tf32 = allowed

    def _check(self, slots: Sequence[int]) -> None:
        demand_open(self.name, self._turns)
        check_slots(slots, self.batch)

    def _send(self, array: NDArray[np.generic]) -> Tensor:
        return self._torch.from_numpy(array).to(self.device)

    def _list_feeds(
        self,
        rows: Sequence[int],
        pixels: NDArray[np.uint8],
        shared: NDArray[np.float32] | None,
    ) -> dict[str, Tensor]:
        """What the step takes but for the state, by role."""
        contract = self.contract
        feeds = {contract.pixels.name: self._send(pixels)}
        feeds |= {name: kept[rows] for name, kept in self._targets.items()}
        fresh = self._send(self._has_history[rows])
        feeds |= {spec.name: fresh for spec in contract.list_inputs("fresh")}
        if shared is not None:
            feeds |= {s.name: self._send(shared) for s in contract.list_inputs("shared")}
        return feeds
