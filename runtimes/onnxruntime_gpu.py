"""onnxruntime on an NVIDIA GPU: everything bound to the device, the state never leaves it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.contract import STEP, TEMPLATE, TensorSpec, describe_graph, list_graphs
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.graphs.sessions import import_onnxruntime
from relo_edge.last_step import LastStep
from relo_edge.runtime import (
    ClosedOnExit,
    RuntimeRequest,
    StepResult,
    check_slots,
    demand_open,
)
from relo_edge.runtimes.gpu_providers import (
    PROVIDERS,
    Opening,
    check_precision,
    list_precisions,
    open_gpu_session,
)
from relo_edge.runtimes.one_by_one import find_target

__all__ = ["OnnxGpuRuntime", "open_runtime"]

log = logging.getLogger("relo_edge")

WARM_UP = 3
"""Runs in each direction when a runtime opens: onnxruntime captures a CUDA graph in the second."""

Array = NDArray[np.float32]


def open_runtime(request: RuntimeRequest) -> OnnxGpuRuntime:
    """Open with the provider that the name asks for."""
    check_precision(request.name, request.precision)
    offered = list_precisions(request.name, request.bundle.precisions)
    precision = request.choose_precision(*offered)
    provider = PROVIDERS[request.name]
    return OnnxGpuRuntime(request.bundle, precision, request.name, provider, batch=request.batch)


class OnnxGpuRuntime(ClosedOnExit):
    """All slots step together at a fixed batch; two state buffers are used in turn.

    On CUDA each direction has a session of its own, because a session keeps one CUDA graph, and
    with it the addresses that it was captured on.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: str,
        name: str,
        provider: str,
        *,
        batch: int = 1,
        device: str = "cuda",
    ) -> None:
        self.name, self.precision, self.device = name, precision, device
        self.variant, self.batch = bundle.variant, batch
        self._onnxruntime = import_onnxruntime()
        opening = Opening(name, provider, precision, batch, cuda_graph=device == "cuda")
        alone = replace(opening, batch=1, cuda_graph=False)
        self._template = None
        if TEMPLATE in list_graphs(bundle.variant):
            self._template = open_gpu_session(bundle.graph(TEMPLATE, precision), alone)
        self.contract = step = describe_graph(bundle.variant, STEP, bundle.state_dtype(precision))
        self._pixels, self._shared = step.pixels.name, step.find_input("shared")
        self._has_history = np.zeros(batch, np.float32)
        self._host = {
            s.name: np.zeros(s.at_batch(batch), s.dtype)
            for s in step.list_inputs("pixels", "target", "shared")
        }
        self._inputs = {name: self._send(array) for name, array in self._host.items()}
        self._inputs |= {s.name: self._send(self._has_history) for s in step.list_inputs("fresh")}
        self._states = [
            {s.before.name: self._send_zeros(s.before, batch) for s in step.states}
            for _ in range(2)
        ]
        self._outputs = {
            s.name: self._send_zeros(s, batch) for s in step.list_outputs("box", "score", "map")
        }
        self._turn, self._last = 0, LastStep()
        self._open_steps(bundle.graph(STEP, precision), opening)

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: Array
    ) -> None:
        """Keep the template's tokens in the slot; templates change rarely, so all are sent anew."""
        self._check([slot])
        if self._template is None:
            raise InputError(f"{self.variant.name} has no templates", fix="set its target tensors")
        made = describe_graph(self.variant, TEMPLATE)
        (given,) = made.list_inputs("given")
        names = [spec.name for spec in made.outputs]
        feeds = {made.pixels.name: template[None], given.name: box[None]}
        for name, part in zip(names, self._template.run(names, feeds), strict=True):
            rows = part.shape[1]
            self._host[name][slot, index * rows : (index + 1) * rows] = part[0]
            self._inputs[name].update_inplace(self._host[name])

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """Keep the tensor in the slot."""
        self._check([slot])
        host = self._host[find_target(self.contract, name).name]
        host[slot] = values
        self._inputs[name].update_inplace(host)

    def forget(self, slot: int) -> None:
        """The slot's next step is a first frame."""
        self._check([slot])
        self._has_history[slot] = 0
        self._last.drop(slot)

    def rewind(self, slot: int) -> None:
        """Turn back where the last step stands for no other slot; else copy the state before it."""
        self._check([slot])
        had_history = self._last.take_back(slot)
        self._has_history[slot] = had_history
        if not self._last:
            self._turn = 1 - self._turn
        elif had_history:
            self._copy_states([slot], self._states[1 - self._turn], self._states[self._turn])

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: Array | None
    ) -> StepResult:
        """Localize the target of each slot and keep its new state."""
        rows = list(slots)
        self._check(rows)
        self._last.clear()
        self._host[self._pixels][rows] = pixels
        self._inputs[self._pixels].update_inplace(self._host[self._pixels])
        for spec in self.contract.list_inputs("fresh"):
            self._inputs[spec.name].update_inplace(self._has_history)
        if (
            self._shared
            and shared is not None
            and not np.array_equal(shared, self._host[self._shared.name])
        ):
            self._host[self._shared.name][...] = shared
            self._inputs[self._shared.name].update_inplace(self._host[self._shared.name])
        self._run_step(self._turn)
        self._keep_idle_states(rows)
        self._turn = 1 - self._turn
        for row in rows:
            self._last.note(row, self._has_history[row])
        self._has_history[rows] = 1
        answers = {name: value.numpy()[rows] for name, value in self._outputs.items()}
        return StepResult.from_outputs(self.contract, answers)

    def read_state(self, slot: int) -> dict[str, Array]:
        """A copy of what the slot carries, brought from the device."""
        self._check([slot])
        states = self._states[self._turn].items()
        return {name: value.numpy()[slot].astype(np.float32) for name, value in states}

    def close(self) -> None:
        """Give the device memory back, the sessions' with it."""
        self._last.clear()
        self._bindings.clear()
        self._steps.clear()
        self._template = None
        self._inputs.clear()
        self._outputs.clear()
        self._states.clear()

    def _check(self, slots: Sequence[int]) -> None:
        demand_open(self.name, self._states)
        check_slots(slots, self.batch)

    def _keep_idle_states(self, rows: list[int]) -> None:
        """Carry over targets that sat this step out."""
        idle = [i for i in range(self.batch) if i not in rows and self._has_history[i]]
        if idle:
            self._copy_states(idle, self._states[self._turn], self._states[1 - self._turn])

    @staticmethod
    def _copy_states(rows: list[int], source: Mapping[str, Any], target: Mapping[str, Any]) -> None:
        """By way of the host: onnxruntime copies no part of a tensor, and it is rare."""
        for name, kept in target.items():
            state = kept.numpy()
            state[rows] = source[name].numpy()[rows]
            kept.update_inplace(state)

    def _open_steps(self, graph: Path, opening: Opening) -> None:
        """Sessions, bindings and graphs; where no CUDA graph is to be had, without and said."""
        try:
            count = 2 if opening.cuda_graph else 1
            sessions = [open_gpu_session(graph, opening) for _ in range(count)]
            self._steps = [sessions[0], sessions[-1]]
            self._bindings = [self._bind_direction(turn) for turn in range(2)]
            for turn in range(2):
                for _ in range(WARM_UP if opening.cuda_graph else 0):
                    self._run_step(turn)
        except RuntimeUnavailable:
            raise
        except Exception as error:  # onnxruntime's own errors share no public base class
            if not opening.cuda_graph:
                raise
            log.info("%s goes on without CUDA graphs: %s", self.name, error)
            self._open_steps(graph, replace(opening, cuda_graph=False))

    def _run_step(self, turn: int) -> None:
        self._steps[turn].run_with_iobinding(self._bindings[turn])

    def _bind_direction(self, turn: int) -> Any:
        """Read the state of this turn, write the other; bound once, as no address changes."""
        binding = self._steps[turn].io_binding()
        for name, value in self._inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            binding.bind_ortvalue_output(name, value)
        for state in self.contract.states:
            name = state.before.name
            binding.bind_ortvalue_input(name, self._states[turn][name])
            binding.bind_ortvalue_output(state.after.name, self._states[1 - turn][name])
        return binding

    def _send_zeros(self, spec: TensorSpec, batch: int) -> Any:
        return self._send(np.zeros(spec.at_batch(batch), spec.dtype))

    def _send(self, array: NDArray[Any]) -> Any:
        return self._onnxruntime.OrtValue.ortvalue_from_numpy(array.copy(), self.device, 0)
