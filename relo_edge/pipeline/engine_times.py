"""What engines are worth on this GPU: parity with float32, times on the device, a verdict."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, Protocol, cast

from relo_edge.bundle import Bundle
from relo_edge.errors import ReloError
from relo_edge.host.measured import Measurement, describe_place, keep_measurement
from relo_edge.host.progress import show_progress
from relo_edge.runtime import Runtime, open_runtime

if TYPE_CHECKING:
    from relo_edge.runtimes.tensorrt.engines import Target
    from relo_edge.runtimes.tensorrt.runtime import TensorRtRuntime

__all__ = ["Measured", "judge_speed", "measure_engines", "time_on_gpu"]

log = logging.getLogger("relo_edge")

REFERENCES = ("onnxruntime", "openvino", "pytorch")
WARM_UP = 2.0
"""Seconds of uninterrupted work, after which a GPU's clocks have settled."""

ROUNDS, LAUNCHES = 5, 40

WORTH_IT = 1.05
"""A lower precision that gains less is not worth its errors."""


class Part(Protocol):
    """Anything with an account of its own."""

    def to_dict(self) -> dict[str, Any]: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class Measured:
    """What only a GPU can tell."""

    parity: Part | None
    """None where no reference in float32 opens."""
    passed: bool
    speed: Part
    milliseconds: Mapping[str, float]
    """Of a step on the GPU, by the precision of the engines that the bundle has for it."""
    layers: Part
    batch: int = 1
    """Targets in that step."""

    @property
    def verdict(self) -> str:
        """Which precision to use."""
        return judge_speed(self.milliseconds, self.batch)


def measure_engines(bundle: Bundle, precision: str, target: Target) -> Measured:
    """Parity with float32 on the CPU, then every precision built here in turns, on this GPU.

    All at the largest batch that was asked for, because ratios hold between equals. The verdict is
    kept on this machine: `auto` takes what was the fastest and passed.
    """
    from relo_edge.benchmarks.speed.latency import count_turns, time_runtimes
    from relo_edge.runtimes.tensorrt.sidecar import list_sidecars

    flavour, batch = target.library.flavour, target.largest
    with ExitStack() as stack:

        def open_engines(kind: str) -> Runtime:
            # They were built here, a moment ago: also those that bring their own code.
            opened = open_runtime(bundle, flavour, kind, batch=batch, trust_engines=True)
            return stack.enter_context(opened)

        opened = [open_engines(precision)]
        others = {sidecar.precision for sidecar in list_sidecars(bundle, flavour)} - {precision}
        for other in sorted(others):
            try:
                opened.append(open_engines(other))
            except ReloError as error:
                log.info("%s is not compared: %s", other, error)
        parity = _judge_parity(bundle, opened[0])
        with show_progress("bench", count_turns(len(opened)), "turns") as advance:
            speed = time_runtimes(opened, advance)
        engines = [cast("TensorRtRuntime", runtime) for runtime in opened]
        milliseconds = time_on_gpu(engines)
        passed = parity is None or bool(parity.passed)
        if parity is not None:
            _keep_verdict(bundle, engines[0], target, milliseconds[precision], passed)
        layers = engines[0].summarize_layers()
        return Measured(parity, passed, speed, milliseconds, layers, batch)


def time_on_gpu(runtimes: Sequence[TensorRtRuntime]) -> dict[str, float]:
    """Milliseconds of a full step by precision: medians of the GPU's own time, in turns.

    Wall time after pauses would measure the clocks as they rise.
    """
    end = time.monotonic() + WARM_UP
    while time.monotonic() < end:
        for runtime in runtimes:
            runtime.time_launches(LAUNCHES)
    times: dict[str, list[float]] = {runtime.precision: [] for runtime in runtimes}
    for _ in range(ROUNDS):
        for runtime in runtimes:
            times[runtime.precision] += runtime.time_launches(LAUNCHES)
    return {precision: median(taken) for precision, taken in times.items()}


def _judge_parity(bundle: Bundle, runtime: Runtime) -> Any:
    """Against float32 on the CPU, by the first runtime that opens; None where none does."""
    from relo_edge.benchmarks.parity.compare import (
        compare_runtimes,
        count_compared,
        run_reference,
    )
    from relo_edge.benchmarks.parity.rollout import find_segments

    for name in REFERENCES:
        try:
            reference = open_runtime(bundle, name, "fp32")
        except ReloError as error:
            log.info("no reference: %s", error)
            continue
        segments = find_segments([])
        with reference, show_progress("parity", count_compared(segments)) as advance:
            alone = run_reference(reference, segments, advance)
            return compare_runtimes(reference, runtime, alone, advance)
    log.warning("parity is not measured: no runtime in float32 opens on this CPU")
    return None


def _keep_verdict(
    bundle: Bundle, runtime: TensorRtRuntime, target: Target, milliseconds: float, passed: bool
) -> None:
    keep_measurement(
        Measurement(
            bundle=bundle.key,
            artefact=runtime.plan_sha256,
            runtime=runtime.name,
            precision=runtime.precision,
            batch=runtime.batch,
            milliseconds=milliseconds,
            passed=passed,
            version=target.library.version,
            place=describe_place(),
        )
    )


def judge_speed(milliseconds: Mapping[str, float], batch: int = 1) -> str:
    """Whether INT8 gains anything over FP16 on this GPU; for many ViTs it does not."""
    size = f" --batch {batch}" if batch > 1 else ""
    place = f" at batch {batch}" if batch > 1 else ""
    half, eight = milliseconds.get("fp16"), milliseconds.get("int8")
    if half is None or eight is None:
        missing = "fp16" if half is None else "int8"
        return f"build --{missing}{size} too, to know whether INT8 is worth it on this GPU"
    ratio = half / eight
    if ratio >= WORTH_IT:
        return f"INT8 is {ratio:.2f} x FP16 here{place}"
    return f"use FP16: INT8 is no faster on this GPU{place} ({ratio:.2f} x)"
