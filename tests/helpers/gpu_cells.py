"""What each cell of `make gpu-check` does, in a process of its own; the result is plain data."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WARM_UP, ROUNDS, STEPS = 2.0, 5, 100
GPU_TESTS = (
    "tests/runtimes/tensorrt/test_device.py",
    "tests/runtimes/tensorrt/test_gpu.py",
    "tests/runtimes/test_protocol.py",
)
PR_SET_PDEATHSIG = 1
REFERENCES = ("onnxruntime", "openvino", "pytorch")
COMPILING = {"mode": "reduce-overhead"}  # with CUDA graphs


PEERS = ("pytorch", "onnxruntime-cuda")
"""Runtimes to compare with, which need not be installed."""


class NotHere(Exception):
    """What a cell needs and this machine, or this bundle, does not have: no fault."""


def end_with_parent() -> None:
    """A run that is killed leaves no cell behind on the GPU."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def run_cell(cell: dict[str, Any]) -> dict[str, Any]:
    """Do what the cell asks for."""
    from relo_edge.errors import MissingDependency

    facts = {name: value for name, value in cell.items() if name != "kind"}
    try:
        result: dict[str, Any] = KINDS[cell["kind"]](**facts)
    except NotHere as error:
        return {"skipped": str(error)}
    except (MissingDependency, ModuleNotFoundError) as error:
        if cell["kind"] != "tests" and cell.get("runtime") not in PEERS:
            raise
        return {"skipped": str(error)}
    return result


def probe(bundle: str | None) -> dict[str, Any]:
    """Whether an engine runs here at all: built, opened, one step, captured, compared."""
    from relo_edge.pipeline.engines import build_engines
    from relo_edge.runtime import open_runtime, resolve_bundle
    from relo_edge.runtimes.tensorrt.device import open_device
    from relo_edge.runtimes.tensorrt.engines import open_target

    device = open_device()
    target = open_target(None, "1", None)
    opened = resolve_bundle(bundle or "demo")
    precision = "fp16" if "fp16" in opened.precisions else "fp32"
    start = time.monotonic()
    build_engines(opened, precision, library=target.library.flavour, measure=False)
    built = time.monotonic() - start
    with open_runtime(opened, target.library.flavour, precision) as runtime:
        times = time_steps(runtime, 20)
        return {
            "gpu": target.gpu.name if target.gpu else None,
            "library": target.library.flavour,
            "version": target.library.version,
            "binding": device.package,
            "build_s": round(built, 1),
            "launching": getattr(runtime, "launching", None),
            "step_ms": round(times["p50_ms"], 3),
            "parity": judge(bundle or "demo", runtime),
        }


def prepare(bundle: str) -> dict[str, Any]:
    """A bundle of drawn weights with graphs of every precision."""
    import shutil

    from engines import add_fp8, add_fp16, add_int8, write_bundle

    from relo_edge.network.fixed_weights import draw_weights
    from relo_edge.spec import VARIANTS

    folder, part = Path(bundle), Path(f"{bundle}.part")
    shutil.rmtree(part, ignore_errors=True)
    weights = draw_weights(VARIANTS[folder.name])
    made = add_fp8(add_int8(add_fp16(write_bundle(folder.name, weights, part))))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
    return {"precisions": list(made.precisions)}


def build(bundle: str, library: str, precision: str, batch: int) -> dict[str, Any]:
    """The engines of one precision and batch; nothing is calibrated for it."""
    from relo_edge.pipeline.engines import build_engines

    check_possible(bundle, precision)
    report = build_engines(bundle, precision, batch=batch, library=library, measure=False)
    plain = report.to_dict()
    return {"seconds": plain["seconds"], "plans": [e["plan"] for e in plain["engines"]]}


def measure(bundle: str, runtime: str, precision: str, batch: int) -> dict[str, Any]:
    """Times of a step and, for one target, whether it is the same tracker."""
    if runtime != "pytorch":
        check_possible(bundle, precision)
    opened = open_contender(bundle, runtime, precision, batch)
    with opened:
        start_targets(opened)
        times = time_steps(opened, STEPS)
        gpu = opened.time_launches(STEPS) if hasattr(opened, "time_launches") else None
        drawn = not is_calibrated(bundle, precision)
        parity = None if batch > 1 or drawn else judge(bundle, opened)
        return {**times, "gpu_ms": sorted(gpu)[len(gpu) // 2] if gpu else None, "parity": parity}


def check_possible(bundle: str, precision: str) -> None:
    """Whether the bundle has the precision and the GPU computes in it."""
    from relo_edge.bundle import open_bundle
    from relo_edge.errors import RuntimeUnavailable
    from relo_edge.runtimes.tensorrt.capability import check_capability
    from relo_edge.runtimes.tensorrt.gpu import find_gpu

    if precision not in open_bundle(bundle).precisions:
        raise NotHere(f"{Path(bundle).name} has no {precision} graphs")
    if gpu := find_gpu():
        try:
            check_capability(precision, gpu.name, gpu.capability)
        except RuntimeUnavailable as error:
            raise NotHere(str(error)) from None


def is_calibrated(bundle: str, precision: str) -> bool:
    """Graphs that nobody calibrated are as fast as others, and have no parity."""
    from relo_edge.bundle import open_bundle

    if precision not in ("int8", "fp8"):
        return True
    return precision in open_bundle(bundle).manifest.get("verdicts", {})


def open_contender(bundle: str, runtime: str, precision: str, batch: int) -> Any:
    """A runtime; PyTorch also compiled, with CUDA graphs, in float32 or half."""
    from relo_edge.runtime import open_runtime

    if runtime != "pytorch":
        return open_runtime(bundle, runtime, precision, batch=batch)
    import torch

    if not torch.cuda.is_available():
        raise NotHere("this torch does not reach the GPU")
    opened: Any = open_reference_network(bundle, batch)
    if precision != "eager":
        compile_network(opened, half="half" in precision)
    return opened


def open_reference_network(bundle: str, batch: int) -> Any:
    """With the bundle's own weights, or those that were drawn for it."""
    from relo_edge.bundle import open_bundle
    from relo_edge.network.fixed_weights import draw_weights
    from relo_edge.runtime import open_runtime
    from relo_edge.runtimes.pytorch import PytorchRuntime

    opened = open_bundle(bundle)
    if opened.manifest["checkpoint"]["path"] == "recipe":
        weights = draw_weights(opened.variant)
        return PytorchRuntime(opened.variant, weights, batch=batch, device="cuda")
    return open_runtime(bundle, "pytorch", batch=batch)


def compile_network(opened: Any, *, half: bool) -> None:
    """The runtime's steps compiled; in half, what autocast makes of them."""
    import torch

    network, step = opened._network, opened._network.step
    network.module.compile(**COMPILING)

    def step_in_half(feeds: dict[str, Any]) -> dict[str, Any]:
        with torch.autocast(opened.device, torch.float16):
            return {name: value.float() for name, value in step(feeds).items()}

    if half:
        network.step = step_in_half


def start_targets(runtime: Any) -> None:
    """A template in every place of every slot."""
    import numpy as np

    variant = runtime.variant
    crop = np.full((variant.template_size, variant.template_size, 3), 90, np.uint8)
    box = np.array([0.25, 0.25, 0.5, 0.5], np.float32)
    for slot in range(runtime.batch):
        for index in range(variant.templates):
            runtime.encode_template(slot, index, crop, box)
        runtime.forget(slot)


def time_steps(runtime: Any, steps: int) -> dict[str, float]:
    """Wall time of full steps, once the clocks have settled."""
    import numpy as np

    side, grid = runtime.variant.search_size, runtime.variant.grid
    crops = np.random.default_rng(0).integers(0, 256, (runtime.batch, side, side, 3), np.uint8)
    window, slots, times = np.ones((grid, grid), np.float32), list(range(runtime.batch)), []
    runtime.step(slots, crops, window)
    end = time.monotonic() + WARM_UP
    while time.monotonic() < end:
        runtime.step(slots, crops, window)
    for _ in range(ROUNDS * steps):
        start = time.perf_counter()
        runtime.step(slots, crops, window)
        times.append(1e3 * (time.perf_counter() - start))
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50_ms": float(p50), "p99_ms": float(p99)}


def judge(bundle: str, runtime: Any) -> bool | None:
    """Whether it follows a built-in clip as float32 on the CPU does; None without a reference."""
    from relo_edge.benchmarks.parity.compare import compare_runtimes, run_reference
    from relo_edge.benchmarks.parity.rollout import find_segments
    from relo_edge.errors import ReloError
    from relo_edge.runtime import open_runtime

    for name in REFERENCES:
        try:
            reference = open_runtime(bundle, name, "fp32")
        except ReloError:
            continue
        with reference:
            alone = run_reference(reference, find_segments([])[:1])
            return bool(compare_runtimes(reference, runtime, alone).passed)
    return None


def run_gpu_tests() -> dict[str, Any]:
    """The tests marked `gpu`."""
    import pytest  # noqa: F401

    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, *GPU_TESTS], cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines() or [done.stderr[-300:]]
    if done.returncode:
        raise SystemExit(f"{lines[-1]}; " + " ".join(x for x in lines if x.startswith("FAILED")))
    return {"summary": lines[-1]}


KINDS = {
    "probe": probe,
    "prepare": prepare,
    "build": build,
    "measure": measure,
    "tests": run_gpu_tests,
}
