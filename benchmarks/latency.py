"""How fast: runtimes taking turns in one run, so that their ratios hold on a noisy machine."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.doctor.evidence import count_cores, read_text
from relo_edge.doctor.machine import judge_instructions, name_cpu
from relo_edge.geometry import Box, read_box
from relo_edge.runtime import Runtime
from relo_edge.synthetic import make_clip
from relo_edge.timing import TimedRuntime
from relo_edge.tracker import Tracker

__all__ = ["BenchResult", "BenchRow", "bench_runtimes", "count_turns"]

REFERENCE = "pytorch"
SIZE = (1280, 720)
FRAMES = 8
TURNS = 12
# A turn opens with a pause, in which the others' threads spin down, and two untimed frames.
PAUSE = 0.1
WARM_UP = 2
TOOLS = ("relo-edge", "numpy", "opencv-python", "torch", "onnxruntime", "openvino")


@dataclass(frozen=True)
class BenchRow:
    """One runtime's time per frame; a frame is crop, network, box and confidence."""

    runtime: str
    precision: str
    batch: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    fps: float
    stages_ms: dict[str, float]
    ratio_to_reference: float | None
    """How many times faster the network runs than the reference in this very run."""


@dataclass(frozen=True)
class BenchResult:
    """Every row, and where it was measured."""

    environment: dict[str, Any]
    rows: list[BenchRow]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def describe(self) -> str:
        """A table."""
        head = f"{'runtime':<22}{'precision':<11}{'p50 ms':>8}{'p90 ms':>8}{'p99 ms':>8}"
        lines = [f"{head}{'FPS':>8}{'network':>9}{'rest':>7}  against {REFERENCE}"]
        for row in self.rows:
            ratio = f"{row.ratio_to_reference:.2f} x" if row.ratio_to_reference else "-"
            times = "".join(f"{t:>8.1f}" for t in (row.p50_ms, row.p90_ms, row.p99_ms, row.fps))
            stages = f"{row.stages_ms['network']:>9.1f}{row.stages_ms['rest']:>7.2f}"
            lines.append(f"{row.runtime:<22}{row.precision:<11}{times}{stages}  {ratio}")
        place = ", ".join(f"{key} {value}" for key, value in self.environment.items())
        return "\n".join([*lines, place])


class _Contender:
    """A tracker on one runtime, its times kept apart from its warm-up."""

    def __init__(self, runtime: Runtime, first: NDArray[np.uint8], box: Box) -> None:
        self.timed = TimedRuntime(runtime)
        self.frames: list[float] = []
        self.networks: list[float] = []
        self._tracker = Tracker(self.timed, color="bgr")
        self._tracker.init(first, box)

    def take_turn(self, frames: Sequence[NDArray[np.uint8]]) -> None:
        """Track the frames; those after the warm-up count."""
        times = []
        self.timed.steps.clear()
        time.sleep(PAUSE)
        for frame in frames:
            start = time.perf_counter()
            self._tracker.update(frame)
            times.append(time.perf_counter() - start)
        self.frames += times[WARM_UP:]
        self.networks += self.timed.steps[WARM_UP:]


def bench_runtimes(
    runtimes: Sequence[Runtime], advance: Callable[[], None] = lambda: None
) -> BenchResult:
    """Time the runtimes turn by turn; `advance` is called after each turn."""
    clip = make_clip(0, frames=WARM_UP + FRAMES + 1, size=SIZE)
    first, *frames = clip.frames()
    contenders = [_Contender(runtime, first, read_box(clip.boxes[0])) for runtime in runtimes]
    for _ in range(TURNS):
        for contender in contenders:
            contender.take_turn(frames)
            advance()
    return BenchResult(_describe_machine(), _make_rows(contenders))


def count_turns(runtimes: int) -> int:
    """How often `advance` will be called."""
    return TURNS * runtimes


def _make_rows(contenders: Sequence[_Contender]) -> list[BenchRow]:
    network = {id(c): float(np.median(c.networks)) for c in contenders}
    reference = next((network[id(c)] for c in contenders if c.timed.inner.name == REFERENCE), None)
    return [_make_row(c, network[id(c)], reference) for c in contenders]


def _make_row(contender: _Contender, network: float, reference: float | None) -> BenchRow:
    runtime = contender.timed.inner
    p50, p90, p99 = (1e3 * float(t) for t in np.percentile(contender.frames, [50, 90, 99]))
    rest = np.median(np.subtract(contender.frames, contender.networks))
    return BenchRow(
        runtime.name,
        runtime.precision,
        1,
        p50,
        p90,
        p99,
        1e3 / p50,
        {"network": 1e3 * network, "rest": 1e3 * float(rest)},
        reference / network if reference else None,
    )


def _describe_machine() -> dict[str, Any]:
    cpuinfo = read_text("/proc/cpuinfo")
    found: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": name_cpu(cpuinfo),
        "instructions": "; ".join(finding.detail for finding in judge_instructions(cpuinfo)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": count_cores(),
        "load": round(os.getloadavg()[0], 2),
        "frame": "{}x{}".format(*SIZE),
    }
    for tool in TOOLS:
        try:
            found[tool] = version(tool)
        except PackageNotFoundError:
            continue
    return found
