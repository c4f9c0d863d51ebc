"""What every soak measures and is judged by: a camera that fails, nothing that grows or is left."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from relo_edge.errors import SourceError
from relo_edge.geometry import Box
from relo_edge.video.opening import open_source
from relo_edge.video.sources.frames import Frame, FrameSource

__all__ = [
    "FAILURES",
    "GROWTH",
    "TARGETS",
    "FailingCamera",
    "ProcessUse",
    "Soak",
    "SoakLog",
    "SoakResult",
]

CAMERA = "synthetic:size=640x480,fps=30"
TARGETS = 3
FAILURES = (0.1, 0.4, 0.7)
"""When the camera fails, as shares of the time: first within the warm-up, because what a first
reconnection allocates is no growth, then twice where growth counts."""
MEASURED = ((0.2, 0.3), (0.9, 2.0))
"""The shares of the time whose memory is compared: after the warm-up, and at the end."""
GROWTH = 0.02

PLAY = """
import sys
from relo_edge.host.opencv import cv2
capture, played = cv2.VideoCapture(sys.argv[1]), 0
announced = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
while capture.read()[0]:
    played += 1
print(played, announced)
"""
"""In a process of its own, so that a decoder's memory is not taken for the tracker's."""


@dataclass(frozen=True)
class ProcessUse:
    """Threads and open files of this process."""

    threads: int
    files: int

    @staticmethod
    def count() -> ProcessUse:
        """Now."""
        return ProcessUse(threading.active_count(), len(list(Path("/proc/self/fd").iterdir())))


@dataclass(frozen=True)
class SoakResult:
    """What a soak found."""

    kind: str
    seconds: float
    frames: int
    added: int
    removed: int
    reconnects: int
    recordings: int
    unplayable: int
    order_broken: int
    """Frames, pictures or rows of boxes older than one before."""
    memory_growth: float
    """Of resident memory, from the end of the warm-up to the end."""
    before: ProcessUse
    after: ProcessUse
    more: dict[str, float | None]
    """What only this kind of soak measures."""

    @property
    def passed(self) -> bool:
        """Nothing grew, broke or was left."""
        whole = not (self.unplayable or self.order_broken) and self.reconnects == len(FAILURES)
        left = self.after.threads > self.before.threads or self.after.files > self.before.files
        return whole and not left and self.recordings > 0 and self.memory_growth <= GROWTH

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "passed": self.passed}

    def list_rows(self) -> list[tuple[str, str]]:
        """Name and value of everything measured."""
        plain = self.to_dict()
        plain |= {"memory_growth": f"{self.memory_growth:+.2%}", **plain.pop("more")}
        return [(name, str(value)) for name, value in plain.items()]

    def describe(self) -> str:
        """A line for each number."""
        return "\n".join(f"{name:<15}{value}" for name, value in self.list_rows())


class FailingCamera:
    """The synthetic camera, which fails at given times and works again when it is reopened."""

    def __init__(self, seconds: float, camera: str | None = None) -> None:
        self._camera = camera or CAMERA
        begin = time.monotonic()
        self._failures = [begin + seconds * share for share in FAILURES]

    def __call__(self) -> FrameSource:
        """Open it, or reopen it."""
        source = open_source(self._camera)
        source.frames = self._give(source.frames)
        return source

    def _give(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        for frame in frames:
            yield frame
            if self._failures and time.monotonic() > self._failures[0]:
                self._failures.pop(0)
                raise SourceError("the camera failed, as planned")


@dataclass
class SoakLog:
    """What is measured while a soak runs, with its clock and its random numbers."""

    seconds: float
    folder: Path
    rng: random.Random
    frames: int = 0
    added: int = 0
    removed: int = 0
    reconnects: int = 0
    recordings: int = 0
    unplayable: int = 0
    order_broken: int = 0
    more: dict[str, float | None] = field(default_factory=dict)
    memory: list[tuple[float, int]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began

    @property
    def running(self) -> bool:
        """Whether there is time left."""
        return self.elapsed < self.seconds

    @property
    def measuring(self) -> bool:
        """Whether memory is compared now: in the same state, or it says how many were there."""
        share = self.elapsed / self.seconds
        return any(low <= share <= high for low, high in MEASURED)

    def draw_box(self, width: int, height: int) -> Box:
        """Somewhere in the picture."""
        side = self.rng.uniform(0.1, 0.3) * height
        return (self.rng.uniform(0, width - side), self.rng.uniform(0, height - side), side, side)

    def record_memory(self) -> None:
        """Pages of this process in memory."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.memory.append((self.elapsed, pages))

    def check_recording(self, video: Path, boxes: Path, numbers: list[int] | None = None) -> None:
        """Check that it plays from end to end and its boxes are in order.

        `numbers` are the frames that were recorded, where they are known.
        """
        self.recordings += 1
        play = [sys.executable, "-c", PLAY, str(video)]
        done = subprocess.run(play, capture_output=True, text=True, check=False)
        played, announced = map(int, done.stdout.split()) if done.returncode == 0 else (0, 0)
        with boxes.open(newline="") as file:
            rows = [int(row["frame"]) for row in csv.DictReader(file)]
        whole = played == announced > 0
        if numbers is not None:
            whole &= played == numbers[-1] - numbers[0] + 1 and set(rows) <= set(numbers)
        self.unplayable += not whole
        self.order_broken += rows != sorted(rows)

    def conclude(self, kind: str, before: ProcessUse) -> SoakResult:
        """The result, after everything was closed."""
        return SoakResult(
            kind=kind,
            seconds=self.seconds,
            frames=self.frames,
            added=self.added,
            removed=self.removed,
            reconnects=self.reconnects,
            recordings=self.recordings,
            unplayable=self.unplayable,
            order_broken=self.order_broken,
            memory_growth=round(measure_growth(self.memory, self.seconds), 4),
            before=before,
            after=ProcessUse.count(),
            more=self.more,
        )


class Soak(ABC):
    """A use of the tracker, repeated until its time is over."""

    add_rate: float
    """How often a target is added where there is room for one."""
    remove_rate: float

    def __init__(self, log: SoakLog) -> None:
        self.log = log

    def run(self) -> None:
        """Repeat until the time is over, with targets that come and go."""
        with closing(self):
            while self.log.running and self.advance():
                self._change_targets()
                self.use()
                self.log.record_memory()

    def _change_targets(self) -> None:
        targets, chance = self.list_targets(), self.log.rng.random()
        if (not targets or chance < self.add_rate) and self.has_room():
            self.log.added += self.add_target()
        elif targets and self.log.rng.random() < self.remove_rate:
            self.log.removed += self.remove_target(self.log.rng.choice(targets))

    @abstractmethod
    def advance(self) -> bool:
        """Take the next frame or picture; False where there is none any more."""

    @abstractmethod
    def use(self) -> None:
        """Track, record, leave and come back."""

    @abstractmethod
    def list_targets(self) -> list[int]:
        """Those that are followed."""

    @abstractmethod
    def has_room(self) -> bool:
        """Whether another can be added now."""

    @abstractmethod
    def add_target(self) -> bool:
        """Add one anywhere in the picture; whether that was taken."""

    @abstractmethod
    def remove_target(self, target: int) -> bool:
        """Stop following one; whether that was taken."""

    @abstractmethod
    def close(self) -> None:
        """End what is still open."""


def measure_growth(memory: list[tuple[float, int]], seconds: float) -> float:
    """The last tenth's mean beside that of the tenth after the warm-up."""

    def mean_between(low: float, high: float) -> float:
        held = [pages for moment, pages in memory if low * seconds <= moment <= high * seconds]
        return sum(held) / max(len(held), 1)

    first, last = (mean_between(*shares) for shares in MEASURED)
    return last / max(first, 1.0) - 1
