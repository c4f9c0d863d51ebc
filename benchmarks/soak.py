"""Hours of use in minutes: a camera that dies, targets that come and go, recordings, nothing left.

`python -m relo_edge.benchmarks.soak BUNDLE --seconds 600` prints a report; exit 1 if anything grew.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relo_edge.errors import SourceError
from relo_edge.feed import Feed, FeedFrame
from relo_edge.geometry import Box
from relo_edge.live import Patience, read_live
from relo_edge.recording import BoxRecorder, VideoRecorder, record_boxes
from relo_edge.runtime import Runtime, open_runtime
from relo_edge.sources.frames import Frame, FrameSource
from relo_edge.tracker import MultiTracker
from relo_edge.video import open_source

__all__ = [
    "DEATHS",
    "GROWTH",
    "TARGETS",
    "Holdings",
    "MortalCamera",
    "SoakResult",
    "measure_growth",
    "read_memory",
    "soak",
]

CAMERA = "synthetic:size=640x480,fps=30"
TARGETS = 3
DEATHS = (0.1, 0.4, 0.7)
"""When the camera dies, as shares of the time: first within the warm-up, because what a first
return allocates is no growth, then twice where growth counts."""
WARM_UP = 0.2
"""The share of the time after which memory must not grow any more."""
GROWTH = 0.02
SEGMENT_SECONDS = 20.0
"""One recording after the other."""

PLAY = """
import sys
from relo_edge.video import open_source
with open_source(sys.argv[1]) as source:
    print(sum(1 for _ in source))
"""
"""In a process of its own, so that a decoder's memory is not taken for the tracker's."""


@dataclass(frozen=True)
class Holdings:
    """What the process holds."""

    threads: int
    files: int

    @staticmethod
    def count() -> Holdings:
        """Now."""
        return Holdings(threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))


@dataclass(frozen=True)
class SoakResult:
    """What a soak found."""

    seconds: float
    frames: int
    dropped: int
    reconnects: int
    targets: int
    recordings: int
    unplayable: int
    order_broken: int
    memory_growth: float
    """Of resident memory, from the end of the warm-up to the end."""
    before: Holdings
    after: Holdings

    @property
    def passed(self) -> bool:
        """Nothing grew, broke or was left."""
        whole = not (self.unplayable or self.order_broken) and self.reconnects == len(DEATHS)
        left = self.after.threads > self.before.threads or self.after.files > self.before.files
        return whole and not left and self.memory_growth <= GROWTH

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "passed": self.passed}

    def describe(self) -> str:
        """The same for a reader."""
        return (
            f"{'passed' if self.passed else 'FAILED'}: {self.seconds:.0f} s, {self.frames} frames "
            f"({self.dropped} dropped), {self.targets} targets, {self.reconnects} reconnects, "
            f"{self.recordings} recordings ({self.unplayable} unplayable), "
            f"{self.order_broken} out of order, memory {self.memory_growth:+.1%}, "
            f"threads {self.before.threads} to {self.after.threads}, "
            f"files {self.before.files} to {self.after.files}"
        )


class MortalCamera:
    """The synthetic camera, which dies at given times and comes back when opened again."""

    def __init__(self, seconds: float) -> None:
        begin = time.monotonic()
        self._deaths = [begin + seconds * share for share in DEATHS]

    def __call__(self) -> FrameSource:
        """Its next life."""
        source = open_source(CAMERA)
        source.frames = self._give(source.frames)
        return source

    def _give(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        for frame in frames:
            yield frame
            if self._deaths and time.monotonic() > self._deaths[0]:
                self._deaths.pop(0)
                raise SourceError("the camera died, as planned")


class _Recordings:
    """Video and boxes, segment after segment; each is read again and thrown away."""

    def __init__(self, folder: Path, fps: float) -> None:
        self._folder, self._fps = folder, fps
        self._begun = 0.0
        self._open: tuple[VideoRecorder, BoxRecorder] | None = None
        self._numbers: list[int] = []
        self.count = self.unplayable = 0

    def write(self, frame: FeedFrame, tracker: MultiTracker) -> None:
        """Track and record the frame."""
        if self._open is None or time.monotonic() - self._begun > SEGMENT_SECONDS:
            self.close()
            self._begun = time.monotonic()
            video = VideoRecorder(self._folder / "soak.mp4", self._fps)
            self._open = video, record_boxes(self._folder / "soak.jsonl")
        self._open[0].write(frame.image, frame.number)
        for target, track in tracker.update(frame.image).items():
            self._open[1].write(frame.number, target, track, frame.time)
        self._numbers.append(frame.number)

    def close(self) -> None:
        """End the segment and see whether it plays from end to end."""
        if self._open is None:
            return
        for recorder in self._open:
            recorder.close()
        self._open = None
        self.count += 1
        video, boxes = self._folder / "soak.mp4", self._folder / "soak.jsonl"
        play = [sys.executable, "-c", PLAY, str(video)]
        done = subprocess.run(play, capture_output=True, text=True, check=False)
        played = int(done.stdout) if done.returncode == 0 else -1
        rows = [json.loads(line)["frame"] for line in boxes.read_text().splitlines()]
        expected = self._numbers[-1] - self._numbers[0] + 1
        self.unplayable += played != expected or not set(rows) <= set(self._numbers)
        self._numbers.clear()
        video.unlink()
        boxes.unlink()


def soak(runtime: Runtime, seconds: float, seed: int = 0) -> SoakResult:
    """Run for so long, and say what grew, broke or stayed."""
    rng, before = random.Random(seed), Holdings.count()
    tracker = MultiTracker(runtime, color="bgr")
    followed: list[int] = []
    memory: list[tuple[float, int]] = []
    started = frames = broken = 0
    last, end = -1, time.monotonic() + seconds
    with (
        tempfile.TemporaryDirectory() as folder,
        read_live(MortalCamera(seconds), patience=Patience(first_wait=0.1)) as reader,
        closing(_Recordings(Path(folder), reader.fps)) as recordings,
    ):
        feed = Feed(reader)
        while time.monotonic() < end and (frame := feed.take()) is not None:
            broken += frame.number <= last
            last, frames = frame.number, frames + 1
            wanted = not followed or rng.random() < 0.2
            if wanted and len(followed) < min(TARGETS, runtime.batch):
                followed.append(tracker.add(frame.image, _draw_box(rng, frame.image)))
                started += 1
            elif followed and rng.random() < 0.02:
                tracker.remove(followed.pop(rng.randrange(len(followed))))
            recordings.write(frame, tracker)
            memory.append((time.monotonic() - end + seconds, read_memory()))
        reconnects, dropped = reader.reconnects, feed.dropped
    growth = measure_growth(memory, seconds)
    return SoakResult(
        seconds=seconds,
        frames=frames,
        dropped=dropped,
        reconnects=reconnects,
        targets=started,
        recordings=recordings.count,
        unplayable=recordings.unplayable,
        order_broken=broken,
        memory_growth=growth,
        before=before,
        after=Holdings.count(),
    )


def _draw_box(rng: random.Random, frame: Frame) -> Box:
    height, width = frame.shape[:2]
    side = rng.uniform(0.1, 0.3) * height
    return (rng.uniform(0, width - side), rng.uniform(0, height - side), side, side)


def read_memory() -> int:
    """Pages of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1])


def measure_growth(memory: list[tuple[float, int]], seconds: float) -> float:
    """The last tenth's mean against that of the tenth after the warm-up."""

    def mean_between(low: float, high: float) -> float:
        held = [pages for moment, pages in memory if low * seconds <= moment <= high * seconds]
        return sum(held) / max(len(held), 1)

    return mean_between(0.9, 2.0) / max(mean_between(WARM_UP, WARM_UP + 0.1), 1.0) - 1


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="demo")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with closing(open_runtime(chosen.bundle, batch=TARGETS, threads=1)) as runtime:
        result = soak(runtime, chosen.seconds)
    print(json.dumps(result.to_dict()) if chosen.json else result.describe())
    if not result.passed:
        raise SystemExit(1)


if __name__ == "__main__":
    _main()
