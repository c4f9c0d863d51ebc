"""OpenVINO on the CPU; bfloat16 where the processor computes in it."""

from __future__ import annotations

import logging
import queue
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.contract import STEP, TEMPLATE, check_graph, list_graphs
from relo_edge.errors import BundleError, MissingDependency, ReloError, RuntimeUnavailable
from relo_edge.host.cpu import has_exact_int8
from relo_edge.host.telemetry import import_silenced
from relo_edge.runtime import RuntimeRequest
from relo_edge.runtimes.one_by_one import Answer, Feeds, Slot, SlotwiseRuntime

__all__ = ["OpenVinoRuntime", "find_core", "import_openvino", "open_runtime", "supports_bf16"]

log = logging.getLogger("relo_edge")

# What the graph is stored in, and what the CPU plugin is told to compute in.
# The INT8 graph's float remainder is computed in bf16 where the CPU can.
PRECISIONS = {"bf16": ("fp32", "bf16"), "fp32": ("fp32", "f32"), "int8": ("int8", "f32")}


def open_runtime(request: RuntimeRequest) -> OpenVinoRuntime:
    """Open as asked; bf16 unless the CPU would only emulate it."""
    offered = ["bf16", "fp32"] if supports_bf16() else ["fp32"]
    if "int8" in request.bundle.precisions:
        offered.append("int8")
    if request.precision == "bf16" and "bf16" not in offered:
        raise RuntimeUnavailable(
            "openvino in bf16",
            found="a CPU without bfloat16 arithmetic",
            expected="AVX-512 BF16 or AMX",
            fix="use `--precision fp32`",
        )
    precision = request.choose_precision(*offered)
    batch, threads, lanes = request.batch, request.threads, request.lanes
    return OpenVinoRuntime(request.bundle, precision, batch=batch, threads=threads, lanes=lanes)


class OpenVinoRuntime(SlotwiseRuntime):
    """One infer request for each lane; a slot's buffers are handed over, never copied."""

    name = "openvino"

    def __init__(
        self,
        bundle: Bundle,
        precision: str,
        *,
        batch: int = 1,
        threads: int | None = None,
        lanes: int = 1,
    ) -> None:
        stored, computed = PRECISIONS[precision]
        super().__init__(bundle.variant, batch, bundle.state_dtype(stored), lanes)
        self.precision = precision
        if stored == "int8" and supports_bf16():
            computed = "bf16"
        if stored == "int8" and not has_exact_int8():
            log.warning(
                "openvino: INT8 overflows on a CPU without VNNI; `--runtime onnxruntime` does not"
            )
        config = {"INFERENCE_PRECISION_HINT": computed, "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if threads or lanes > 1:
            # Pinned, every process that was given a part of the cores would use the first ones.
            config["ENABLE_CPU_PINNING"] = "NO"
        self._tensor = import_openvino().Tensor
        core = find_core()
        if lanes > 1:
            config["NUM_STREAMS"] = str(lanes)
        compiled = {
            name: _compile_graph(core, bundle, name, stored, config)
            for name in list_graphs(bundle.variant)
        }
        made = compiled.get(TEMPLATE)
        self._template = made.create_infer_request() if made else None
        self._steps: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(lanes):
            self._steps.put(compiled[STEP].create_infer_request())

    def _run_template(self, feeds: Feeds) -> Answer:
        graph = self._template
        assert graph is not None
        feeds = _make_writable(feeds)
        for name, array in feeds.items():
            graph.set_tensor(name, self._share(array))
        graph.infer()
        return {port.get_any_name(): graph.get_tensor(port).data for port in graph.model_outputs}

    def _run_step(self, slot: Slot, feeds: Feeds) -> Answer:
        step = self._steps.get()
        try:
            return self._infer(step, slot, feeds)
        finally:
            self._steps.put(step)

    def _infer(self, step: Any, slot: Slot, feeds: Feeds) -> Answer:
        feeds = _make_writable(feeds)
        for name, array in feeds.items():
            step.set_tensor(name, self._share(array))
        for state in self.contract.states:
            after = slot.next_state[state.before.name]
            step.set_tensor(state.after.name, self._share(after))
        step.infer()
        plain = self.contract.list_outputs("box", "score", "map")
        # Copied, because the next caller in this lane overwrites them.
        return {spec.name: step.get_tensor(spec.name).data.copy() for spec in plain}

    def _share(self, array: NDArray[Any]) -> Any:
        return self._tensor(array, shared_memory=True)


def _make_writable(feeds: Feeds) -> Feeds:
    """OpenVINO shares no array that is read-only, as those are that Ray hands over."""
    return {name: np.require(array, requirements=["C", "W"]) for name, array in feeds.items()}


def import_openvino() -> Any:
    """The package, or how to get it."""
    try:
        return import_silenced("openvino")
    except ImportError as error:
        raise MissingDependency(
            "openvino does not import", found=error, fix="`pip install 'relo-edge[cpu]'`"
        ) from None


def supports_bf16() -> bool:
    """Whether the CPU plugin computes in bfloat16 here, rather than emulating it."""
    return "BF16" in find_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@cache
def find_core() -> Any:
    """The process's one core, which is kept.

    Its CPU plugin gives the thread a signal stack. Of two cores that are closed in the order in
    which they were opened, the second puts back the first's, which is gone by then: the next
    Ctrl-C would be a segmentation fault.
    """
    return import_openvino().Core()


def _compile_graph(
    core: Any, bundle: Bundle, name: str, precision: str, config: dict[str, str]
) -> Any:
    """The graph at batch 1."""
    graph = bundle.graph(name, precision)
    try:
        model = core.read_model(graph)
        shapes = {port: _set_batch(port.partial_shape) for port in model.inputs}
        named = {port.get_any_name(): shape for port, shape in shapes.items()}
        model.reshape(shapes)
        given = {port.get_any_name(): _list_sizes(port.partial_shape) for port in model.outputs}
        check_graph(graph, bundle.variant, name, named, given)
        return core.compile_model(model, "CPU", config)
    except ReloError:
        raise
    except Exception as error:  # openvino's own, and what its bindings trip over
        raise BundleError(f"openvino cannot open {graph}", found=error) from None


def _list_sizes(shape: Any) -> list[object]:
    return [None if size.is_dynamic else size.get_length() for size in shape]


def _set_batch(shape: Any) -> list[int]:
    return [1 if size.is_dynamic else size.get_length() for size in shape]
