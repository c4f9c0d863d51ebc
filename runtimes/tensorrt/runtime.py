"""TensorRT engines as a runtime: the state never leaves the GPU, and no copy of it is made."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.contract import GRAPHS, TensorSpec, describe_graph
from relo_edge.errors import DeviceError, PrecisionError, RuntimeUnavailable
from relo_edge.runtime import ClosedOnExit, LastStep, RuntimeRequest, StepResult, check_slots
from relo_edge.runtimes.tensorrt.buffers import Mirror, allocate, count_bytes
from relo_edge.runtimes.tensorrt.device import Device, open_device
from relo_edge.runtimes.tensorrt.engine import Context, Engine, load_engine
from relo_edge.runtimes.tensorrt.engines import find_gpu
from relo_edge.runtimes.tensorrt.layers import LayerSummary
from relo_edge.runtimes.tensorrt.library import Library, find_library
from relo_edge.runtimes.tensorrt.sidecar import Sidecar, advise_build, check_plan, list_sidecars

__all__ = ["TensorRtRuntime", "choose_engines", "open_runtime"]

log = logging.getLogger("relo_edge")

BEST_FIRST = ("fp16", "int8", "fp8", "fp32")
STATE, TOKENS = "temporal_tokens", "template_tokens"
# In this order in one block, so that one copy carries all that a step of some batch needs.
SENT = ("has_history", "window", "search")
FETCHED = ("box", "score", "policy_logits")

Array = NDArray[np.float32]
Engines = Mapping[str, Sidecar]


def open_runtime(request: RuntimeRequest) -> TensorRtRuntime:
    """Open the engines that the bundle has for this library and GPU."""
    gpu = find_gpu()
    if gpu is None:
        raise RuntimeUnavailable(
            f"{request.name} needs an NVIDIA GPU", fix="see `relo-edge doctor`"
        )
    sidecars = choose_engines(request, gpu.capability)
    library = find_library(request.name)
    return TensorRtRuntime(request.bundle, sidecars, library, open_device(), batch=request.batch)


def choose_engines(request: RuntimeRequest, capability: tuple[int, int]) -> Engines:
    """Both engines of the precision asked for, or of the best one there."""
    bundle, found = request.bundle, dict[str, dict[str, Sidecar]]()

    def fits(sidecar: Sidecar) -> bool:
        return sidecar.compute_capability in (None, capability)

    for sidecar in sorted(list_sidecars(bundle, request.name), key=fits):
        found.setdefault(sidecar.precision, {})[sidecar.graph] = sidecar
    whole = [p for p in BEST_FIRST if set(found.get(p, ())) == set(GRAPHS)]
    if not whole:
        raise RuntimeUnavailable(
            f"{bundle.path} holds no engine for {request.name}",
            fix=advise_build(bundle, BEST_FIRST[0], request.batch),
        )
    precision = whole[0] if request.precision == "auto" else request.precision
    if precision not in whole:
        raise PrecisionError(
            f"precision of {request.name}",
            found=precision,
            expected=" | ".join(whole),
            fix=advise_build(bundle, precision, request.batch) if precision in BEST_FIRST else None,
        )
    return found[precision]


class TensorRtRuntime(ClosedOnExit):
    """Slots are rows of fixed device buffers. A step runs rows 0 to the last slot named.

    All rows change sides together: a step reads one state buffer and writes the other. Rows that
    have a history and were not named are carried over by a copy on the device.
    """

    device = "cuda"

    def __init__(
        self, bundle: Bundle, sidecars: Engines, library: Library, device: Device, *, batch: int = 1
    ) -> None:
        self.name, self.precision = library.flavour, sidecars["step"].precision
        self.variant, self.batch = bundle.variant, batch
        self.launching = _describe_launching(library, device)
        self._captures = device.graphs is not None and not library.captures_itself
        self._device, self._library = device, library
        self._lock, self._ended = threading.Lock(), ""
        self._held = ExitStack()
        self._contexts: dict[tuple[int, int], Context] = {}
        self._graphs: dict[tuple[int, int], Any] = {}
        self._turn, self._last = 0, LastStep()
        try:
            with device.activate():
                self._open(bundle, sidecars)
        except BaseException:
            self._release()
            raise
        log.info("%s on %s: %s", self.name, device.gpu, self.launching)

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
        """What TensorRT made of the step graph."""
        with self._use():
            return self._step.summarize_layers()

    def close(self) -> None:
        """Give the device memory back."""
        with self._lock:
            self._ended = self._ended or "it was closed"
            self._release()

    def _open(self, bundle: Bundle, sidecars: Engines) -> None:
        device, library, held = self._device, self._library, self._held
        gpu, capability = device.gpu, device.capability
        plans = {
            name: check_plan(bundle, sidecar, library, gpu, capability, self._need_batch(name))
            for name, sidecar in sidecars.items()
        }
        template, self._step = (self._load(bundle, sidecars[name], plans[name]) for name in GRAPHS)
        self._stream = device.create_stream()
        held.callback(self._drop, device.destroy_stream, self._stream)
        step = describe_graph(self.variant, "step", sidecars["step"].state_dtype)
        specs = {spec.name: spec for spec in (*step.inputs, *step.outputs)}
        self._state: TensorSpec = specs[STATE]
        self._sent = Mirror(device, held, [specs[name] for name in SENT], self.batch)
        self._fetched = Mirror(device, held, [specs[name] for name in FETCHED], self.batch)
        self._tokens, *self._states = (self._clear(specs[n]) for n in (TOKENS, STATE, STATE))
        self._open_encoder(template)
        for _ in range(2):
            self._launch(self.batch)
            self._turn = 1 - self._turn
        device.synchronize(self._stream)

    def _open_encoder(self, loaded: Engine) -> None:
        """The template engine runs one template into a buffer of its own."""
        box, template = sorted(
            describe_graph(self.variant, "template").inputs, key=lambda spec: spec.name
        )
        (fresh,) = describe_graph(self.variant, "template").outputs
        self._template = Mirror(self._device, self._held, [box, template], 1)
        self._template_bytes = count_bytes(fresh)
        self._fresh = allocate(self._device, self._held, self._template_bytes)
        addresses = {name: self._template.address(name) for name in ("template", "box")}
        self._encoder = loaded.create_context(1, {**addresses, TOKENS: self._fresh}, self._stream)

    def _load(self, bundle: Bundle, sidecar: Sidecar, plan: Any) -> Engine:
        contract = describe_graph(bundle.variant, sidecar.graph, sidecar.state_dtype)
        compatible = sidecar.compatible == "version"
        return load_engine(self._library, plan, contract, version_compatible=compatible)

    def _need_batch(self, graph: str) -> int:
        return self.batch if graph == "step" else 1

    def _clear(self, spec: TensorSpec) -> int:
        size = count_bytes(spec, self.batch)
        address = allocate(self._device, self._held, size)
        self._device.clear(address, size, self._stream)
        return address

    def _launch(self, batch: int) -> None:
        """One step of this turn; the first of its kind goes plainly and is then captured."""
        key = self._turn, batch
        if key in self._graphs and self._device.graphs:
            self._device.graphs.launch(self._graphs[key], self._stream)
            return
        first = key not in self._contexts
        if first:
            self._contexts[key] = self._create_context(batch)
        self._enqueue(key)
        if first and self._captures:
            self._capture(key)

    def _create_context(self, batch: int) -> Context:
        addresses = {name: self._sent.address(name) for name in SENT}
        addresses |= {name: self._fetched.address(name) for name in FETCHED}
        before, after = self._states[self._turn], self._states[1 - self._turn]
        addresses |= {TOKENS: self._tokens, STATE: before, f"{STATE}_out": after}
        return self._step.create_context(batch, addresses, self._stream)

    def _enqueue(self, key: tuple[int, int]) -> None:
        """Crops in, network, boxes out."""
        self._sent.send(self._stream, key[1])
        self._contexts[key].enqueue(self._stream)
        self._fetched.fetch(self._stream)

    def _capture(self, key: tuple[int, int]) -> None:
        """Write the step down; where that fails, go on without graphs and say so."""
        graphs = self._device.graphs
        assert graphs is not None
        try:
            graphs.begin(self._stream)
            try:
                self._enqueue(key)
            finally:
                graph = graphs.end(self._stream)
        except DeviceError as error:
            self._captures = False
            self.launching = f"kernel by kernel: {error}"
            log.warning("%s goes on without CUDA graphs: %s", self.name, error)
            return
        self._graphs[key] = graph
        self._held.callback(self._drop, graphs.destroy, graph)

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
        """Contexts and engines first, as they use the buffers; nothing is given back twice."""
        self._graphs.clear()
        self._contexts.clear()
        for name in ("_encoder", "_step"):
            self.__dict__.pop(name, None)
        with suppress(DeviceError), self._device.activate():
            self._held.close()

    @staticmethod
    def _drop(give_back: Any, what: Any) -> None:
        with suppress(DeviceError):
            give_back(what)


def _describe_launching(library: Library, device: Device) -> str:
    if library.captures_itself:
        return "CUDA graphs captured by TensorRT for RTX itself"
    if device.graphs is None:
        return f"kernel by kernel: {device.package} captures no CUDA graphs"
    return "captured CUDA graphs"
