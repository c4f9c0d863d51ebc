"""Frames per second and milliseconds by stage, in samples that a page can plot."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

__all__ = ["Meter"]

SPAN = 0.5
"""Seconds that a sample stands for."""

KEPT = 120


class Meter:
    """Stages are noted from several threads; samples are taken by one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._start = self._since = time.monotonic()
        self._times: defaultdict[str, list[float]] = defaultdict(list)
        self._frames = 0
        self.history: deque[dict[str, Any]] = deque(maxlen=KEPT)
        """The last minute, for a page that comes later."""

    @property
    def fps(self) -> float | None:
        """The rate of the last sample, where there is one."""
        return self.history[-1]["fps"] if self.history else None

    def note(self, stage: str, seconds: float) -> None:
        """One frame's time in a stage."""
        with self._lock:
            self._times[stage].append(seconds)

    @contextlib.contextmanager
    def time(self, stage: str) -> Iterator[None]:
        """Note how long the block takes."""
        start = time.perf_counter()
        yield
        self.note(stage, time.perf_counter() - start)

    def count_frame(self) -> None:
        """One more frame was followed."""
        with self._lock:
            self._frames += 1

    def take_sample(self) -> dict[str, Any] | None:
        """What happened since the last sample, once that is long enough ago."""
        now = time.monotonic()
        with self._lock:
            if now - self._since < SPAN:
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
