"""The reference network as a runtime: what every other runtime is measured against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, MissingDependency
from relo_edge.host.files import hash_file
from relo_edge.runtime import (
    ClosedOnExit,
    LastStep,
    RuntimeRequest,
    StepResult,
    check_slots,
    demand_open,
)
from relo_edge.spec import Variant

if TYPE_CHECKING:
    from torch import Tensor

    from relo_edge.network.checkpoint import Checkpoint
    from relo_edge.network.relo import FrameMaps

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
        variant: Variant,
        weights: Mapping[str, Tensor],
        *,
        batch: int = 1,
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        import torch

        from relo_edge.network.relo import build_network

        if threads:
            torch.set_num_threads(threads)
        self.variant = variant
        self.batch = batch
        self.device = device
        self._torch = torch
        self._network = build_network(variant, weights).to(device)
        tokens = (batch, variant.templates, variant.tokens_per_template, variant.width)
        self._templates = torch.zeros(tokens, device=device)
        # Used in turn, each slot on its own, so that a step can be taken back.
        self._states = torch.zeros((2, batch, *variant.state_shape), device=device)
        self._turns = [0] * batch
        self._has_history = np.zeros(batch, np.float32)
        self._last = LastStep()

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        """Keep the template's tokens in the slot."""
        self._check([slot])
        with self._torch.inference_mode(), self._without_tf32():
            tokens = self._network.encode_template(
                self._send(template[None]), self._send(box[None])
            )
            self._templates[slot, index] = tokens[0]

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
        searches: NDArray[np.uint8],
        window: NDArray[np.float32],
    ) -> StepResult:
        """Localize one search crop for each slot and keep its new state."""
        rows = list(slots)
        self._check(rows)
        turns = [self._turns[row] for row in rows]
        had_history = self._has_history[rows]
        self._last.clear()
        with self._torch.inference_mode(), self._without_tf32():
            maps, state = self._network(
                self._send(searches),
                self._templates[rows].flatten(1, 2),
                self._states[turns, rows],
                self._send(had_history),
            )
            self._states[[1 - turn for turn in turns], rows] = state
            for row, turn, had in zip(rows, turns, had_history, strict=True):
                self._turns[row] = 1 - turn
                self._last.note(row, had)
            self._has_history[rows] = 1
            return self._decode_boxes(maps, self._send(window))

    def read_state(self, slot: int) -> NDArray[np.float32]:
        """A copy of the slot's temporal tokens."""
        self._check([slot])
        state: NDArray[np.float32] = self._states[self._turns[slot], slot].cpu().numpy().copy()
        return state

    def write_state(self, slot: int, state: NDArray[np.float32]) -> None:
        """Give the slot this history, whatever it had: for a diagnosis that makes mistakes."""
        demand_open(self.name, self._turns)
        self._states[self._turns[slot], slot] = self._send(state)
        self._has_history[slot] = 1
        self._last.drop(slot)

    def compile_network(self) -> None:
        """Let torch.compile have the network; the next frames take as long as it needs."""
        self.name = "pytorch-compile"
        self._network.compile()

    def close(self) -> None:
        """Give up weights and buffers, so that a GPU has their memory back."""
        self._turns.clear()
        self._last.clear()
        for held in ("_network", "_templates", "_states"):
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

    def _decode_boxes(self, maps: FrameMaps, window: Tensor) -> StepResult:
        """The box of the cell where the windowed logit is greatest."""
        grid = self.variant.grid
        scores, cells = (maps.policy_logits * window).flatten(1).max(dim=1)
        picked = cells.view(-1, 1, 1).expand(-1, 2, 1)
        sizes = maps.sizes.flatten(2).gather(2, picked).squeeze(2)
        offsets = maps.offsets.flatten(2).gather(2, picked).squeeze(2)
        corners = self._torch.stack([cells % grid, cells // grid], dim=1)
        boxes = self._torch.cat([(corners + offsets) / grid, sizes], dim=1)
        return StepResult(
            boxes.cpu().numpy(), scores.cpu().numpy(), maps.policy_logits.cpu().numpy()
        )
