"""Time to the first box and peak memory, each measured in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from relo_edge.errors import RuntimeUnavailable
from relo_edge.geometry import read_box
from relo_edge.host.cpu import find_values, read_text
from relo_edge.runtime import open_runtime
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import Tracker

__all__ = ["StartUp", "measure_start", "read_peak_mb"]

SIZE = (1280, 720)
FRAMES = 4
TIMEOUT = 600.0


@dataclass(frozen=True)
class StartUp:
    """What it takes to begin."""

    start_up_ms: float
    """From the new process to the opened runtime: imports, weights, compiling."""
    first_frame_ms: float
    """Setting the target and the first box."""
    peak_memory_mb: float
    """Of the process, after a few frames; without the GPU's memory."""


def measure_start(opening: Mapping[str, Any]) -> StartUp:
    """Open a runtime with these arguments in a child and track a few frames there."""
    command = [sys.executable, "-m", "relo_edge.benchmarks.speed.startup"]
    text = json.dumps({"began": time.time(), **opening})
    what = f"{opening['name']} in a process of its own"
    try:
        child = subprocess.run(
            [*command, text], capture_output=True, text=True, timeout=TIMEOUT, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise RuntimeUnavailable(what, found=f"no end within {TIMEOUT:.0f} s") from None
    if child.returncode:
        last = (child.stderr.strip().splitlines() or [f"exit code {child.returncode}"])[-1]
        raise RuntimeUnavailable(what, found=last)
    return StartUp(**json.loads(child.stdout.splitlines()[-1]))


def _answer_parent(text: str) -> None:
    """The child's side."""
    opening = json.loads(text)
    began = opening.pop("began")
    with closing(open_runtime(**opening)) as runtime:
        opened = time.time()
        clip = make_clip(0, frames=FRAMES + 1, size=SIZE)
        first, *frames = clip.frames()
        tracker = Tracker(runtime, color="bgr")
        start = time.perf_counter()
        tracker.init(first, read_box(clip.boxes[0]))
        tracker.update(frames[0])
        taken = time.perf_counter() - start
        for frame in frames[1:]:
            tracker.update(frame)
    found = StartUp(1e3 * (opened - began), 1e3 * taken, read_peak_mb())
    print(json.dumps(vars(found)))


def read_peak_mb() -> float:
    """This process's largest resident memory.

    The kernel's own count is asked: getrusage's also counts the parent.
    """
    status = find_values(read_text("/proc/self/status"), "VmHWM")
    return int(status[0].split()[0]) / 1024 if status else 0.0


if __name__ == "__main__":
    _answer_parent(sys.argv[1])
