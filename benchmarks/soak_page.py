"""The live page under load: `python -m relo_edge.benchmarks.soak --minutes 10`."""

from __future__ import annotations

import argparse
import csv
import gc
import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from relo_edge.benchmarks.soak_viewer import SoakViewer, stamp_frame
from relo_edge.errors import SourceError
from relo_edge.live import Patience, read_live
from relo_edge.opencv import cv2
from relo_edge.runtime import Runtime, open_runtime
from relo_edge.serve.roster import build_roster
from relo_edge.serve.server import PageServer
from relo_edge.serve.takes import Takes
from relo_edge.serve.tracking import TrackingThread
from relo_edge.sources.frames import Frame, FrameSource
from relo_edge.sources.simulated import open_synthetic

__all__ = ["SoakResult", "soak_page"]

TARGETS = 3
DEATHS = (0.35, 0.7)
"""When the camera dies, as shares of the whole time."""
RECORDINGS = 4
GROWTH = 0.02
WARM_UP = 0.2
"""The share of the time in which memory may still grow."""
SIZE = (640, 480)


@dataclass(frozen=True)
class SoakResult:
    """What was done, and what must not have happened."""

    seconds: float
    frames: int
    pictures: int
    page_ms: float
    """From a frame's capture to the viewer's word that it has it: the median."""
    added: int
    removed: int
    reconnects: int
    recordings: int
    memory_mib: float
    memory_growth: float
    """Over all but the first fifth of the time; 0.02 is two per cent."""
    disorder: int
    """Pictures or boxes older than one before."""
    unplayable: tuple[str, ...]
    left_behind: tuple[str, ...]
    """Threads, files and children that outlived the server."""

    @property
    def passed(self) -> bool:
        """Whether everything that must hold did."""
        whole = not (self.disorder or self.unplayable or self.left_behind)
        busy = self.recordings >= 1 and self.reconnects == len(DEATHS)
        return whole and busy and self.memory_growth <= GROWTH

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "passed": self.passed}

    def describe(self) -> str:
        """A line for each number."""
        return "\n".join(f"{name:<14}{value}" for name, value in self.to_dict().items())


@dataclass
class _Camera:
    """A synthetic camera whose frames tell their number; it dies when it is told to."""

    number: int = 0
    doomed: threading.Event = field(default_factory=threading.Event)

    def open(self) -> FrameSource:
        source = open_synthetic("synthetic:size={}x{}".format(*SIZE))
        source.frames = self._give(source.frames)
        return source

    def _give(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        for frame in frames:
            if self.doomed.is_set():
                self.doomed.clear()
                raise SourceError("synthetic stopped", found="what the soak wanted")
            self.number += 1
            yield stamp_frame(frame, self.number)


def soak_page(runtime: Runtime, seconds: float, folder: Path, seed: int = 0) -> SoakResult:
    """Run the live page with one viewer that is never content; its runtime is closed at the end."""
    before = _list_holdings()
    camera, takes = _Camera(), Takes(folder, "soak")
    patience = Patience(first_wait=0.2, longest_wait=1)
    tracking = TrackingThread(
        lambda: read_live(camera.open, patience=patience), lambda: build_roster(runtime), takes
    )
    with PageServer(tracking, "127.0.0.1", 0) as server:
        run = _Run(server.port, camera, random.Random(seed), seconds)
        run.carry_out()
        reconnects = tracking.reconnects
    gc.collect()
    left = tuple(sorted(_list_holdings() - before))
    videos = [path for path in takes.made if path.suffix == ".mp4"]
    boxes = [path for path in takes.made if path.suffix == ".csv"]
    return SoakResult(
        seconds=round(seconds, 1),
        frames=tracking.frames,
        pictures=run.pictures,
        page_ms=round(median(run.ages), 1) if run.ages else float("inf"),
        added=run.added,
        removed=run.removed,
        reconnects=reconnects,
        recordings=len(videos),
        memory_mib=round(run.memory[-1], 1),
        memory_growth=round(_measure_growth(run.memory), 4),
        disorder=run.disorder + sum(not _is_in_order(path) for path in boxes),
        unplayable=tuple(path.name for path in videos if not _is_playable(path)),
        left_behind=left,
    )


class _Run:
    """The viewer's day."""

    def __init__(self, port: int, camera: _Camera, dice: random.Random, seconds: float) -> None:
        self._port, self._camera, self._dice, self._seconds = port, camera, dice, seconds
        self._deaths = [share * seconds for share in DEATHS]
        self._turns = [seconds * (n + 0.5) / (2 * RECORDINGS) for n in range(2 * RECORDINGS)]
        self.pictures = self.disorder = self.added = self.removed = 0
        self.ages: list[float] = []
        self.memory: list[float] = []

    def carry_out(self) -> None:
        """Add, remove, record, reload, and let the camera die, until the time is over."""
        start, viewer = time.monotonic(), SoakViewer(self._port)
        while (passed := time.monotonic() - start) < self._seconds:
            viewer.watch(self._dice.uniform(0.1, min(1.0, self._seconds / 20)))
            self._change_targets(viewer)
            if self._turns and passed > self._turns[0]:
                self._turns.pop(0)
                viewer.ask("stop-recording" if viewer.state["recording"] else "record")
            if self._deaths and passed > self._deaths[0]:
                self._deaths.pop(0)
                self._camera.doomed.set()
            if self._dice.random() < 0.02:
                self._leave(viewer)
                viewer = SoakViewer(self._port)
            self.memory.append(_read_memory())
        self._leave(viewer)

    def _change_targets(self, viewer: SoakViewer) -> None:
        targets = [entry["target"] for entry in viewer.state.get("targets", ())]
        if len(targets) < TARGETS and viewer.picture is not None:
            width, height = (self._dice.uniform(20, 120) for _ in SIZE)
            x, y = self._dice.uniform(0, SIZE[0] - width), self._dice.uniform(0, SIZE[1] - height)
            box = [x, y, width, height]
            answer = viewer.ask("add", picture=viewer.picture, box=box)
            self.added += answer["type"] == "done"
        elif targets and self._dice.random() < 0.3:
            answer = viewer.ask("remove", target=self._dice.choice(targets))
            self.removed += answer["type"] == "done"

    def _leave(self, viewer: SoakViewer) -> None:
        self.pictures += viewer.pictures
        self.disorder += viewer.disorder
        self.ages += viewer.ages
        viewer.close()


def _measure_growth(memory: list[float]) -> float:
    """How much larger the end is than the beginning, the warm-up left out."""
    settled = memory[int(WARM_UP * len(memory)) :]
    window = max(1, len(settled) // 8)
    first, last = median(settled[:window]), median(settled[-window:])
    return last / first - 1


def _read_memory() -> float:
    """MiB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _list_holdings() -> set[str]:
    """Our threads, open files and children."""
    files = set()
    for path in Path("/proc/self/fd").iterdir():
        try:
            files.add(f"file {path.name}: {path.readlink()}")
        except OSError:  # the listing's own
            continue
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    return files | threads | {f"child {number}" for number in children}


def _is_playable(path: Path) -> bool:
    capture = cv2.VideoCapture(str(path))
    announced, read = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0
    while capture.read()[0]:
        read += 1
    capture.release()
    return read == announced > 0


def _is_in_order(path: Path) -> bool:
    with path.open(newline="") as file:
        frames = [int(row["frame"]) for row in csv.DictReader(file)]
    return frames == sorted(frames)


def main() -> int:
    """Soak the page with the demo weights, or a bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--runtime", default="auto")
    options = parser.parse_args()
    runtime = open_runtime(options.bundle, options.runtime, batch=TARGETS, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        result = soak_page(runtime, 60 * options.minutes, Path(folder))
    print(result.describe(), file=sys.stderr)
    print(json.dumps(result.to_dict()))
    return 0 if result.passed else 1


if __name__ == "__main__":
    sys.exit(main())
