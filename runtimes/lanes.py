"""Lanes of a CPU runtime: so many callers compute at a time, and each waits for its turn."""

from __future__ import annotations

import threading
from collections import deque

from relo_edge.host.cpu import count_cores

__all__ = ["Lanes", "count_threads"]


def count_threads(threads: int | None, lanes: int) -> int | None:
    """Threads of a session that several lanes call at once: each brings its own; None for all."""
    return threads if lanes == 1 else max(1, (threads or count_cores()) - lanes + 1)


class Lanes:
    """A semaphore that is left to whoever has waited longest.

    Python's own lets a fast caller come back before those it has woken, which then starve.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._free = count
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            turn = threading.Lock()
            turn.acquire()
            self._waiting.append(turn)
        turn.acquire()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
