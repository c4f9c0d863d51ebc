"""Frames per second and milliseconds by stage, in samples that a page can plot."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relo_edge.streams.metrics import SourceMeter

__all__ = ["StageTimes"]

SAMPLE_SECONDS = 0.5
HISTORY_LENGTH = 120


class StageTimes:
    """Stages are timed on several threads; one thread takes the samples."""

    def __init__(self, meter: SourceMeter | None = None) -> None:
        self._meter = meter
        self._lock = threading.Lock()
        self._start = self._since = time.monotonic()
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._frames = 0
        self.history: deque[dict[str, Any]] = deque(maxlen=HISTORY_LENGTH)
        """The last minute, for a page that is opened later."""

    @property
    def fps(self) -> float | None:
        """The rate of the last sample, if there is one."""
        return self.history[-1]["fps"] if self.history else None

    def add(self, stage: str, seconds: float) -> None:
        """Add one frame's time in a stage."""
        with self._lock:
            self._times[stage].append(seconds)
        if self._meter:
            self._meter.add(stage, seconds)

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.perf_counter()
        yield
        self.add(stage, time.perf_counter() - start)

    def count_frame(self) -> None:
        """Count one tracked frame."""
        with self._lock:
            self._frames += 1

    def restart(self) -> None:
        """Begin a new sample: what was measured before a pause belongs to none."""
        with self._lock:
            self._times.clear()
            self._frames, self._since = 0, time.monotonic()

    def take_sample(self) -> dict[str, Any] | None:
        """Rate and mean times since the last sample; None when that is not long ago."""
        now = time.monotonic()
        with self._lock:
            if now - self._since < SAMPLE_SECONDS:
                return None
            sample = {
                "at": round(now - self._start, 2),
                "fps": round(self._frames / (now - self._since), 2),
                "ms": {
                    stage: round(1e3 * sum(times) / len(times), 2)
                    for stage, times in self._times.items()
                },
            }
            self._times.clear()
            self._frames, self._since = 0, now
        self.history.append(sample)
        return sample
