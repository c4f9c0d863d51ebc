"""From an ONNX graph to a plan: parse, set the profile, build; every failure has its reason."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.contract import BATCH, GraphContract, TensorSpec
from relo_edge.errors import BundleError, ReloError, RuntimeUnavailable
from relo_edge.runtimes.tensorrt.library import Library

__all__ = ["Wanted", "build_plan", "create_builder", "make_profile", "parse_graph"]

WORKSPACE = 1 << 30
"""Scratch memory that a kernel may ask for: the largest network needs far less, and a Jetson shares
it with everything else."""

Shapes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Wanted:
    """What a plan is built for."""

    contract: GraphContract
    batch: int = 1
    least: int | None = None
    """The fewest targets; without it the shapes are fixed, which is faster."""
    capability: tuple[int, int] | None = None
    """Of the GPU that will run it, if that is known."""
    compatible: str | None = None
    timings: Path | None = None
    """Where kernels timed for one plan are kept for the next."""


def build_plan(
    library: Library,
    graph: Path,
    wanted: Wanted,
    advance: Callable[[], None],
    pressed: threading.Event,
) -> Any:
    """A plan, as TensorRT's own buffer; `pressed` breaks it off within a step."""
    trt = library.trt
    library.journal.take()
    builder = create_builder(library)
    network = parse_graph(library, builder, graph)
    check_network(library, network, graph, wanted.contract)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    # TF32 would round what is asked for in float32; half does not go through it.
    config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.progress_monitor = _create_monitor(trt, advance, pressed)
    profile = builder.create_optimization_profile()
    for name, shapes in make_profile(wanted.contract, wanted.batch, wanted.least).items():
        profile.set_shape(name, *shapes)
    config.add_optimization_profile(profile)
    library.bind_to(config, wanted.capability)
    if wanted.compatible:
        library.set_compatible(config, wanted.compatible)
    _load_timings(library, config, wanted.timings)
    plan = _run_aside(lambda: builder.build_serialized_network(network, config))
    if pressed.is_set():
        raise KeyboardInterrupt
    if plan is None:
        raise ReloError(
            f"{library.flavour} cannot build {graph}",
            found=library.journal.take(),
            fix="see `relo-edge doctor`",
        )
    _keep_timings(library, config, wanted.timings)
    return plan


def create_builder(library: Library) -> Any:
    """TensorRT's builder, or why the library gives none."""
    try:
        return library.trt.Builder(library.logger)
    except TypeError:  # the binding's way to say that the library gave no object
        raise RuntimeUnavailable(
            f"{library.flavour} cannot build here",
            found=library.journal.take(),
            fix="see `relo-edge doctor`",
        ) from None


def parse_graph(library: Library, builder: Any, graph: Path) -> Any:
    """A strongly typed network; what the parser has to say against the graph is the error."""
    trt = library.trt
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, library.logger)
    if not parser.parse_from_file(str(graph)):
        reasons = [_describe_problem(parser.get_error(i)) for i in range(parser.num_errors)]
        raise BundleError(
            f"{library.flavour} cannot parse {graph}",
            found="; ".join(dict.fromkeys(reasons)) or library.journal.take(),
            fix="export again if an older relo-edge made it",
        )
    return network


def check_network(library: Library, network: Any, graph: Path, contract: GraphContract) -> None:
    """Compare the network's tensors with the contract, before minutes are spent on building it."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    for specs, tensors in ((contract.inputs, inputs), (contract.outputs, outputs)):
        found = {
            tensor.name: (name_dtype(library, tensor.dtype), tuple(tensor.shape))
            for tensor in tensors
        }
        expected = {spec.name: (spec.dtype, _open_shape(spec)) for spec in specs}
        if found != expected:
            raise BundleError(
                f"{graph} does not have the tensors of its contract",
                found=found,
                expected=expected,
                fix="export again",
            )


def name_dtype(library: Library, dtype: Any) -> str:
    """TensorRT's type by numpy's name."""
    trt = library.trt
    names = {
        trt.DataType.FLOAT: "float32",
        trt.DataType.HALF: "float16",
        trt.DataType.UINT8: "uint8",
    }
    return names.get(dtype, str(dtype))


def make_profile(
    contract: GraphContract, batch: int, least: int | None = None
) -> dict[str, Shapes]:
    """The least, best and largest shape of each input with a batch; the largest is the best."""
    fewest = batch if least is None else least
    return {
        spec.name: (spec.at_batch(fewest), spec.at_batch(batch), spec.at_batch(batch))
        for spec in contract.inputs
        if BATCH in spec.shape
    }


def _open_shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(-1 if size == BATCH else int(size) for size in spec.shape)


def _describe_problem(problem: Any) -> str:
    """Node, operator and the first thing said; the rest repeats it with places in TensorRT."""
    lines = [line for line in problem.desc().splitlines() if "checkMacros" not in line]
    said = " ".join(lines)
    node, operator = problem.node_name(), problem.node_operator()
    place = f"node {node} ({operator}): " if node or operator else ""
    return f"{place}{said}"


def _create_monitor(trt: Any, advance: Callable[[], None], pressed: threading.Event) -> Any:
    """TensorRT's progress as ours; an exception in it would end the process, an answer stops it."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            """The steps say enough."""

        def phase_finish(self, name: str) -> None:
            """The steps say enough."""

        def step_complete(self, _name: str, _step: int) -> bool:
            advance()
            return not pressed.is_set()

    return Monitor()


def _run_aside(call: Callable[[], Any]) -> Any:
    """In a thread of its own: only the main one hears Ctrl-C, and TensorRT would keep it busy."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(call)
        while not running.done():
            wait([running], timeout=0.1)
        return running.result()


def _load_timings(library: Library, config: Any, file: Path | None) -> None:
    if file is None or not library.keeps_timings:
        return
    known = file.read_bytes() if file.is_file() else b""
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        # A cache of another driver or a damaged one: begin anew.
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timings(library: Library, config: Any, file: Path | None) -> None:
    if file is None or not library.keeps_timings:
        return
    from relo_edge.host.files import write_bytes

    file.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(file, config.get_timing_cache().serialize())
