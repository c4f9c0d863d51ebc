"""TensorRT engines as a runtime: the state never leaves the GPU, and no copy of it is made."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.contract import STEP, TEMPLATE, TensorSpec, describe_graph
from relo_edge.errors import DeviceError, InputError, RuntimeUnavailable
from relo_edge.last_step import LastStep
from relo_edge.runtime import ClosedOnExit, RuntimeRequest, StepResult, check_slots
from relo_edge.runtimes.one_by_one import find_target
from relo_edge.runtimes.tensorrt.buffers import ALIGNMENT, Mirror, allocate, count_bytes
from relo_edge.runtimes.tensorrt.choice import ChosenEngines, choose_engines
from relo_edge.runtimes.tensorrt.compiled import read_compiled
from relo_edge.runtimes.tensorrt.device import Device, open_device
from relo_edge.runtimes.tensorrt.engine import Context, Engine, load_engine
from relo_edge.runtimes.tensorrt.gpu import Gpu, find_gpu
from relo_edge.runtimes.tensorrt.launcher import StepLauncher
from relo_edge.runtimes.tensorrt.layers import LayerSummary
from relo_edge.runtimes.tensorrt.library import Library, find_library
from relo_edge.runtimes.tensorrt.sidecar import FOLDER, Sidecar, read_plan

__all__ = ["Site", "TensorRtRuntime", "open_runtime"]

log = logging.getLogger("relo_edge")

# In this order in one block, so that one copy carries all that a step of some batch needs.
SENT = ("fresh", "shared", "pixels")
FETCHED = ("box", "score", "map")

Array = NDArray[np.float32]


def open_runtime(request: RuntimeRequest) -> TensorRtRuntime:
    """Open the engines that the bundle has for this library and GPU."""
    gpu = find_gpu()
    if gpu is None:
        raise RuntimeUnavailable(
            f"{request.name} needs an NVIDIA GPU", fix="see `relo-edge doctor`"
        )
    chosen = choose_engines(request, gpu)
    library = find_library(request.name)
    site = Site(library, gpu, open_device(), trusted=request.trust_engines)
    return TensorRtRuntime(request.bundle, chosen, site, batch=request.batch)


@dataclass(frozen=True)
class Site:
    """Where engines run."""

    library: Library
    gpu: Gpu
    device: Device
    trusted: bool = False
    """Whether the user vouches for engines that this machine did not build."""


@dataclass(frozen=True)
class _Kept:
    """A tensor of all slots that stays on the device."""

    spec: TensorSpec
    address: int

    def locate(self, slot: int) -> int:
        """The address of a slot's part."""
        return self.address + slot * count_bytes(self.spec)


class TensorRtRuntime(ClosedOnExit):
    """Slots are rows of fixed device buffers. A step runs rows 0 to the last slot named.

    All rows change sides together: a step reads one buffer of each state and writes the other. Rows
    that have a history and were not named are carried over by a copy on the device.
    """

    device = "cuda"

    def __init__(
        self, bundle: Bundle, chosen: ChosenEngines, site: Site, *, batch: int = 1
    ) -> None:
        self.name, self.precision = site.library.flavour, chosen.precision
        self.variant, self.batch = bundle.variant, batch
        self.plan_sha256 = chosen.steps[max(chosen.steps)].plan_sha256
        self._site, self._device = site, site.device
        self._lock, self._ended = threading.Lock(), ""
        self._held = ExitStack()
        self._turn, self._last = 0, LastStep()
        self._has_history = np.zeros(batch, np.float32)
        self._encoder: Context | None = None
        self._engines: dict[str, Engine] = {}
        self._steps: StepLauncher | None = None
        try:
            with self._device.activate():
                self._open(bundle, chosen)
        except BaseException:
            self._release()
            raise
        log.info("%s on %s: %s", self.name, site.gpu.name, self.launching)

    @property
    def launching(self) -> str:
        """How a step is put into the stream."""
        return self._launcher.description

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: Array
    ) -> None:
        """Keep the template's tokens in the slot; they are made on the device and stay there."""
        with self._use(slot):
            if self._encoder is None:
                fix = "set its target tensors"
                raise InputError(f"{self.variant.name} has no templates", fix=fix)
            given, picture = self._made.list_inputs("given", "pixels")
            self._template.host(picture.name)[0] = template
            self._template.host(given.name)[0] = box
            self._template.send(self._stream, 1)
            self._encoder.enqueue(self._stream)
            for spec in self._made.outputs:
                size = count_bytes(spec)
                target = self._targets[spec.name].locate(slot) + index * size
                self._device.move(target, self._fresh[spec.name], size, self._stream)
            self._device.synchronize(self._stream)

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """Send the tensor to the device, where it stays."""
        with self._use(slot):
            spec = find_target(self.contract, name)
            array = np.ascontiguousarray(np.broadcast_to(values, spec.at_batch(1)), spec.dtype)
            self._device.send(self._targets[name].locate(slot), array, self._stream)
            self._device.synchronize(self._stream)

    def forget(self, slot: int) -> None:
        """The slot's next step is a first frame."""
        with self._use(slot):
            self._has_history[slot] = 0
            self._last.drop(slot)

    def rewind(self, slot: int) -> None:
        """Turn back where the last step stands for no other slot; else move the state before it."""
        with self._use(slot):
            had_history = self._last.take_back(slot)
            self._has_history[slot] = had_history
            if not self._last:
                self._turn = 1 - self._turn
            elif had_history:
                self._move_state(slot, 1 - self._turn, self._turn)

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: Array | None
    ) -> StepResult:
        """Localize the target of each slot and keep its new state."""
        rows = list(slots)
        with self._use(*rows):
            self._last.clear()
            self._sent.host(self.contract.pixels.name)[rows] = pixels
            for spec in self.contract.list_inputs("shared"):
                self._sent.host(spec.name)[...] = shared
            for spec in self.contract.list_inputs("fresh"):
                self._sent.host(spec.name)[: self.batch] = self._has_history
            if rows:
                self._launch(max(rows) + 1)
                self._keep_idle_states(rows)
                self._device.synchronize(self._stream)
                self._turn = 1 - self._turn
            for row in rows:
                self._last.note(row, self._has_history[row])
            self._has_history[rows] = 1
            plain = self.contract.list_outputs(*FETCHED)
            answers = {spec.name: self._fetched.host(spec.name)[rows] for spec in plain}
            return StepResult.from_outputs(self.contract, answers)

    def read_state(self, slot: int) -> dict[str, Array]:
        """A copy of what the slot carries, brought from the device."""
        with self._use(slot):
            found = {}
            for name, kept in self._states[self._turn].items():
                found[name] = np.empty(kept.spec.at_batch(1)[1:], kept.spec.dtype)
                self._device.fetch(found[name], kept.locate(slot), self._stream)
            self._device.synchronize(self._stream)
            return {name: values.astype(np.float32) for name, values in found.items()}

    def time_launches(self, count: int) -> list[float]:
        """The GPU's own milliseconds for so many steps of the full batch; forgets every slot."""
        with self._use():
            self._has_history[:] = 0
            for spec in self.contract.list_inputs("fresh"):
                self._sent.host(spec.name)[:] = 0
            self._last.clear()
            times = []
            for _ in range(count):
                times.append(self._device.time_call(lambda: self._launch(self.batch), self._stream))
                self._turn = 1 - self._turn
            return times

    def summarize_layers(self) -> LayerSummary:
        """What TensorRT made of the step graph, for the most targets."""
        with self._use():
            return self._launcher.largest.summarize_layers()

    def close(self) -> None:
        """Give the device memory back."""
        with self._lock:
            self._ended = self._ended or "it was closed"
            self._release()

    def _open(self, bundle: Bundle, chosen: ChosenEngines) -> None:
        device, held = self._device, self._held
        loaded = self._engines
        for sidecar in chosen.sidecars:
            if sidecar.plan not in loaded:
                loaded[sidecar.plan] = self._load(bundle, sidecar)
        steps = {batch: loaded[sidecar.plan] for batch, sidecar in chosen.steps.items()}
        self._stream = device.create_stream()
        held.callback(self._drop, device.destroy_stream, self._stream)
        capacity = max(steps)
        dtype = chosen.steps[capacity].state_dtype
        self.contract = step = describe_graph(self.variant, STEP, dtype)
        self._sent = Mirror(device, held, step.list_inputs(*SENT), capacity)
        self._fetched = Mirror(device, held, step.list_outputs(*FETCHED), capacity)
        self._targets = {s.name: self._clear(s, capacity) for s in step.list_inputs("target")}
        self._states = [
            {state.before.name: self._clear(state.before, capacity) for state in step.states}
            for _ in range(2)
        ]
        needed = max(one.scratch_bytes for one in loaded.values())
        scratch = allocate(device, held, max(needed, ALIGNMENT))
        library, stream = self._site.library, self._stream
        if chosen.template is not None:
            self._open_encoder(loaded[chosen.template.plan], scratch)
        self._steps = StepLauncher(library, device, stream, steps, self._sent, self._fetched)
        self._steps.open(self._bind, scratch)
        for plan, one in loaded.items():
            one.keep_compiled(bundle.path / FOLDER / plan)

    def _open_encoder(self, loaded: Engine, scratch: int) -> None:
        """The template engine runs one template into buffers of its own."""
        self._made = made = describe_graph(self.variant, TEMPLATE)
        inputs = made.list_inputs("given", "pixels")
        self._template = Mirror(self._device, self._held, inputs, 1)
        self._fresh = {
            s.name: allocate(self._device, self._held, count_bytes(s)) for s in made.outputs
        }
        addresses = {spec.name: self._template.address(spec.name) for spec in inputs}
        addresses |= self._fresh
        self._encoder = loaded.create_context(1, addresses, scratch, self._stream)

    def _load(self, bundle: Bundle, sidecar: Sidecar) -> Engine:
        site = self._site
        plan = read_plan(bundle, sidecar, site.library, site.gpu, trusted=site.trusted)
        contract = describe_graph(bundle.variant, sidecar.graph, sidecar.state_dtype)
        compiled = read_compiled(bundle.path / FOLDER / sidecar.plan)
        return load_engine(site.library, plan, sidecar, contract, compiled)

    def _clear(self, spec: TensorSpec, batch: int) -> _Kept:
        size = count_bytes(spec, batch)
        address = allocate(self._device, self._held, size)
        self._device.clear(address, size, self._stream)
        return _Kept(spec, address)

    @property
    def _launcher(self) -> StepLauncher:
        assert self._steps is not None
        return self._steps

    def _launch(self, rows: int) -> None:
        self._launcher.launch(self._turn, rows)

    def _bind(self, turn: int) -> dict[str, int]:
        """The addresses of a direction: read this turn's state, write the other."""
        step = self.contract
        addresses = {s.name: self._sent.address(s.name) for s in step.list_inputs(*SENT)}
        addresses |= {s.name: self._fetched.address(s.name) for s in step.list_outputs(*FETCHED)}
        addresses |= {name: kept.address for name, kept in self._targets.items()}
        for state in step.states:
            name = state.before.name
            addresses[name] = self._states[turn][name].address
            addresses[state.after.name] = self._states[1 - turn][name].address
        return addresses

    def _keep_idle_states(self, rows: Sequence[int]) -> None:
        """Rows that sat this step out change sides too; in the stream's order, on the device."""
        for row in range(self.batch):
            if row not in rows and self._has_history[row]:
                self._move_state(row, self._turn, 1 - self._turn)

    def _move_state(self, row: int, source: int, target: int) -> None:
        """From the buffers of one side to those of the other."""
        for name, kept in self._states[source].items():
            address = self._states[target][name].locate(row)
            size = count_bytes(kept.spec)
            self._device.move(address, kept.locate(row), size, self._stream)

    @contextmanager
    def _use(self, *slots: int) -> Iterator[None]:
        """One call at a time; after an error of the device there is none any more."""
        with self._lock:
            if self._ended:
                raise DeviceError(
                    f"this {self.name} runtime is closed", found=self._ended, fix="open another"
                )
            check_slots(slots, self.batch)
            try:
                with self._device.activate():
                    yield
            except DeviceError as error:
                self._ended = str(error)
                self._release()
                raise

    def _release(self) -> None:
        """Graphs, contexts and engines first, as they use the buffers; nothing goes back twice."""
        with suppress(DeviceError), self._device.activate():
            if self._steps is not None:
                self._steps.close()
            self._encoder = None
            self._engines.clear()
            self._held.close()

    @staticmethod
    def _drop(give_back: Any, what: Any) -> None:
        with suppress(DeviceError):
            give_back(what)
