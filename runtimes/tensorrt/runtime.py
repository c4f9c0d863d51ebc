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
from relo_edge.contract import TensorSpec, describe_graph
from relo_edge.errors import DeviceError, RuntimeUnavailable
from relo_edge.runtime import ClosedOnExit, LastStep, RuntimeRequest, StepResult, check_slots
from relo_edge.runtimes.tensorrt.buffers import ALIGNMENT, Mirror, allocate, count_bytes
from relo_edge.runtimes.tensorrt.choice import ChosenEngines, choose_engines
from relo_edge.runtimes.tensorrt.compiled import read_compiled
from relo_edge.runtimes.tensorrt.device import Device, open_device
from relo_edge.runtimes.tensorrt.engine import Engine, load_engine
from relo_edge.runtimes.tensorrt.gpu import Gpu, find_gpu
from relo_edge.runtimes.tensorrt.launcher import StepLauncher
from relo_edge.runtimes.tensorrt.layers import LayerSummary
from relo_edge.runtimes.tensorrt.library import Library, find_library
from relo_edge.runtimes.tensorrt.sidecar import FOLDER, Sidecar, read_plan

__all__ = ["Site", "TensorRtRuntime", "open_runtime"]

log = logging.getLogger("relo_edge")

STATE, TOKENS = "temporal_tokens", "template_tokens"
# In this order in one block, so that one copy carries all that a step of some batch needs.
SENT = ("has_history", "window", "search")
FETCHED = ("box", "score", "policy_logits")

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


class TensorRtRuntime(ClosedOnExit):
    """Slots are rows of fixed device buffers. A step runs rows 0 to the last slot named.

    All rows change sides together: a step reads one state buffer and writes the other. Rows that
    have a history and were not named are carried over by a copy on the device.
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
            self._template.host("template")[0] = template
            self._template.host("box")[0] = box
            self._template.send(self._stream, 1)
            self._encoder.enqueue(self._stream)
            place = slot * self.variant.templates + index
            target = self._tokens + place * self._template_bytes
            self._device.move(target, self._fresh, self._template_bytes, self._stream)
            self._device.synchronize(self._stream)

    def forget(self, slot: int) -> None:
        """The slot's next step is a first frame."""
        with self._use(slot):
            self._sent.host("has_history")[slot] = 0
            self._last.drop(slot)

    def rewind(self, slot: int) -> None:
        """Turn back where the last step stands for no other slot; else move the state before it."""
        with self._use(slot):
            had_history = self._last.take_back(slot)
            self._sent.host("has_history")[slot] = had_history
            before, after = self._states[1 - self._turn], self._states[self._turn]
            if not self._last:
                self._turn = 1 - self._turn
            elif had_history:
                self._move_state(slot, before, after)

    def step(self, slots: Sequence[int], searches: NDArray[np.uint8], window: Array) -> StepResult:
        """Localize one search crop for each slot and keep its new state."""
        rows = list(slots)
        with self._use(*rows):
            self._last.clear()
            self._sent.host("search")[rows] = searches
            self._sent.host("window")[...] = window
            if rows:
                self._launch(max(rows) + 1)
                self._keep_idle_states(rows)
                self._device.synchronize(self._stream)
                self._turn = 1 - self._turn
            history = self._sent.host("has_history")
            for row in rows:
                self._last.note(row, history[row])
            history[rows] = 1
            box, score, logits = (self._fetched.host(name)[rows] for name in FETCHED)
            return StepResult(box, score, logits)

    def read_state(self, slot: int) -> Array:
        """A copy of the slot's temporal tokens, brought from the device."""
        with self._use(slot):
            state = np.empty(self.variant.state_shape, self._state.dtype)
            source = self._states[self._turn] + slot * count_bytes(self._state)
            self._device.fetch(state, source, self._stream)
            self._device.synchronize(self._stream)
            return state.astype(np.float32)

    def time_launches(self, count: int) -> list[float]:
        """The GPU's own milliseconds for so many steps of the full batch; forgets every slot."""
        with self._use():
            self._sent.host("has_history")[:] = 0
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
        for sidecar in (chosen.template, *chosen.steps.values()):
            if sidecar.plan not in loaded:
                loaded[sidecar.plan] = self._load(bundle, sidecar)
        steps = {batch: loaded[sidecar.plan] for batch, sidecar in chosen.steps.items()}
        self._stream = device.create_stream()
        held.callback(self._drop, device.destroy_stream, self._stream)
        capacity = max(steps)
        step = describe_graph(self.variant, "step", chosen.steps[capacity].state_dtype)
        specs = {spec.name: spec for spec in (*step.inputs, *step.outputs)}
        self._state: TensorSpec = specs[STATE]
        self._sent = Mirror(device, held, [specs[name] for name in SENT], capacity)
        self._fetched = Mirror(device, held, [specs[name] for name in FETCHED], capacity)
        self._tokens, *self._states = (
            self._clear(specs[name], capacity) for name in (TOKENS, STATE, STATE)
        )
        needed = max(one.scratch_bytes for one in loaded.values())
        scratch = allocate(device, held, max(needed, ALIGNMENT))
        library, stream = self._site.library, self._stream
        self._open_encoder(loaded[chosen.template.plan], scratch)
        self._steps = StepLauncher(library, device, stream, steps, self._sent, self._fetched)
        self._steps.open(self._bind, scratch)
        for plan, one in loaded.items():
            one.keep_compiled(bundle.path / FOLDER / plan)

    def _open_encoder(self, loaded: Engine, scratch: int) -> None:
        """The template engine runs one template into a buffer of its own."""
        box, template = sorted(
            describe_graph(self.variant, "template").inputs, key=lambda spec: spec.name
        )
        (fresh,) = describe_graph(self.variant, "template").outputs
        self._template = Mirror(self._device, self._held, [box, template], 1)
        self._template_bytes = count_bytes(fresh)
        self._fresh = allocate(self._device, self._held, self._template_bytes)
        addresses = {name: self._template.address(name) for name in ("template", "box")}
        addresses[TOKENS] = self._fresh
        self._encoder = loaded.create_context(1, addresses, scratch, self._stream)

    def _load(self, bundle: Bundle, sidecar: Sidecar) -> Engine:
        site = self._site
        plan = read_plan(bundle, sidecar, site.library, site.gpu, trusted=site.trusted)
        contract = describe_graph(bundle.variant, sidecar.graph, sidecar.state_dtype)
        compiled = read_compiled(bundle.path / FOLDER / sidecar.plan)
        return load_engine(site.library, plan, sidecar, contract, compiled)

    def _clear(self, spec: TensorSpec, batch: int) -> int:
        size = count_bytes(spec, batch)
        address = allocate(self._device, self._held, size)
        self._device.clear(address, size, self._stream)
        return address

    @property
    def _launcher(self) -> StepLauncher:
        assert self._steps is not None
        return self._steps

    def _launch(self, rows: int) -> None:
        self._launcher.launch(self._turn, rows)

    def _bind(self, turn: int) -> dict[str, int]:
        """The addresses of a direction: read this turn's state, write the other."""
        addresses = {name: self._sent.address(name) for name in SENT}
        addresses |= {name: self._fetched.address(name) for name in FETCHED}
        before, after = self._states[turn], self._states[1 - turn]
        return addresses | {TOKENS: self._tokens, STATE: before, f"{STATE}_out": after}

    def _keep_idle_states(self, rows: Sequence[int]) -> None:
        """Rows that sat this step out change sides too; in the stream's order, on the device."""
        history = self._sent.host("has_history")
        before, after = self._states[self._turn], self._states[1 - self._turn]
        for row in range(self.batch):
            if row not in rows and history[row]:
                self._move_state(row, before, after)

    def _move_state(self, row: int, source: int, target: int) -> None:
        size = count_bytes(self._state)
        self._device.move(target + row * size, source + row * size, size, self._stream)

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
            self.__dict__.pop("_encoder", None)
            self._engines.clear()
            self._held.close()

    @staticmethod
    def _drop(give_back: Any, what: Any) -> None:
        with suppress(DeviceError):
            give_back(what)
