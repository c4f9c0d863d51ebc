"""The live page under load: a viewer who is never content, a camera that dies, nothing left.

`python -m relo_edge.benchmarks.soak_page BUNDLE --seconds 600` prints a report; exit 1 if any
of it went wrong.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from relo_edge.benchmarks.soak import (
    DEATHS,
    GROWTH,
    TARGETS,
    Holdings,
    MortalCamera,
    measure_growth,
    read_memory,
)
from relo_edge.benchmarks.soak_viewer import SoakViewer, stamp_frame
from relo_edge.live import Patience, read_live
from relo_edge.opencv import cv2
from relo_edge.runtime import Runtime, open_runtime
from relo_edge.serve.roster import build_roster
from relo_edge.serve.server import PageServer
from relo_edge.serve.takes import Takes
from relo_edge.serve.tracking import TrackingThread
from relo_edge.sources.frames import Frame, FrameSource

__all__ = ["PageSoakResult", "soak_page"]

RECORDINGS = 4
SIZE = (640, 480)


@dataclass(frozen=True)
class PageSoakResult:
    """What was done, and what must not have happened."""

    seconds: float
    frames: int
    pictures: int
    page_ms: float | None
    """From a frame's capture to the viewer's word that it has it: the median."""
    added: int
    removed: int
    visits: int
    reconnects: int
    recordings: int
    unplayable: int
    order_broken: int
    """Pictures, or rows of boxes, older than one before."""
    memory_growth: float
    before: Holdings
    after: Holdings

    @property
    def passed(self) -> bool:
        """Nothing grew, broke or was left."""
        whole = not (self.unplayable or self.order_broken) and self.reconnects == len(DEATHS)
        left = self.after.threads > self.before.threads or self.after.files > self.before.files
        return whole and not left and self.recordings > 0 and self.memory_growth <= GROWTH

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "passed": self.passed}

    def describe(self) -> str:
        """A line for each number."""
        return "\n".join(f"{name:<15}{value}" for name, value in self.to_dict().items())


class _StampedCamera:
    """The camera that dies, its frames telling their number."""

    def __init__(self, seconds: float) -> None:
        self._camera, self._number = MortalCamera(seconds), 0

    def __call__(self) -> FrameSource:
        source = self._camera()
        source.frames = self._stamp(source.frames)
        return source

    def _stamp(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        for frame in frames:
            self._number += 1
            yield stamp_frame(frame, self._number)


def soak_page(runtime: Runtime, seconds: float, folder: Path, seed: int = 0) -> PageSoakResult:
    """Run the page for so long and say what grew, broke or stayed; the runtime is closed."""
    before, camera, takes = Holdings.count(), _StampedCamera(seconds), Takes(folder)
    patience = Patience(first_wait=0.1, longest_wait=1)
    tracking = TrackingThread(
        lambda: read_live(camera, patience=patience), lambda: build_roster(runtime), takes
    )
    with PageServer(tracking, "127.0.0.1", 0) as server:
        run = _Run(server.port, random.Random(seed), seconds)
        run.carry_out()
        reconnects = tracking.reconnects
    videos = [path for path in takes.made if path.suffix == ".mp4"]
    boxes = [path for path in takes.made if path.suffix == ".csv"]
    return PageSoakResult(
        seconds=seconds,
        frames=tracking.frames,
        pictures=run.pictures,
        page_ms=round(median(run.ages), 1) if run.ages else None,
        added=run.added,
        removed=run.removed,
        visits=run.visits,
        reconnects=reconnects,
        recordings=len(videos),
        unplayable=sum(not _is_playable(path) for path in videos),
        order_broken=run.order_broken + sum(not _is_in_order(path) for path in boxes),
        memory_growth=round(measure_growth(run.memory, seconds), 4),
        before=before,
        after=Holdings.count(),
    )


class _Run:
    """The viewer's day."""

    def __init__(self, port: int, dice: random.Random, seconds: float) -> None:
        self._port, self._dice, self._seconds = port, dice, seconds
        self._turns = [seconds * (n + 0.5) / (2 * RECORDINGS) for n in range(2 * RECORDINGS)]
        self.pictures = self.order_broken = self.added = self.removed = self.visits = 0
        self.ages: list[float] = []
        self.memory: list[tuple[float, int]] = []

    def carry_out(self) -> None:
        """Add, remove, record, leave and come back, until the time is over."""
        start, viewer = time.monotonic(), SoakViewer(self._port)
        while (passed := time.monotonic() - start) < self._seconds:
            viewer.watch(self._dice.uniform(0.1, min(1.0, self._seconds / 20)))
            self._change_targets(viewer)
            if self._turns and passed > self._turns[0]:
                self._turns.pop(0)
                viewer.ask("stop-recording" if viewer.state["recording"] else "record")
            if self._dice.random() < 0.02:
                self._leave(viewer)
                viewer = SoakViewer(self._port)
            self.memory.append((passed, read_memory()))
        self._leave(viewer)

    def _change_targets(self, viewer: SoakViewer) -> None:
        targets = [entry["target"] for entry in viewer.state.get("targets", ())]
        if len(targets) < TARGETS and viewer.picture is not None:
            width, height = (self._dice.uniform(20, 120) for _ in SIZE)
            x, y = self._dice.uniform(0, SIZE[0] - width), self._dice.uniform(0, SIZE[1] - height)
            answer = viewer.ask("add", picture=viewer.picture, box=[x, y, width, height])
            self.added += answer["type"] == "done"
        elif targets and self._dice.random() < 0.3:
            answer = viewer.ask("remove", target=self._dice.choice(targets))
            self.removed += answer["type"] == "done"

    def _leave(self, viewer: SoakViewer) -> None:
        self.visits += 1
        self.pictures += viewer.pictures
        self.order_broken += viewer.order_broken
        self.ages += viewer.ages
        viewer.close()


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


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="demo")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    runtime = open_runtime(chosen.bundle, batch=TARGETS, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        result = soak_page(runtime, chosen.seconds, Path(folder))
    print(json.dumps(result.to_dict()) if chosen.json else result.describe())
    if not result.passed:
        raise SystemExit(1)


if __name__ == "__main__":
    _main()
