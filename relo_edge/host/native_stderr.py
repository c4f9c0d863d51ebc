"""What OpenCV and FFmpeg write to stderr themselves: kept off it, and there to be read."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator

__all__ = ["silence_native_stderr"]

_STDERR = 2

MAX_BYTES = 1 << 16


class _Redirection:
    """stderr belongs to the process: the first of several threads diverts it, the last restores."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._original = self._sink = -1

    def begin(self) -> int:
        """Divert stderr; returns how much was written to it so far."""
        with self._lock:
            if not self._users:
                self._original = os.dup(_STDERR)
                self._sink = _open_sink()
                os.dup2(self._sink, _STDERR)
            self._users += 1
            return os.fstat(self._sink).st_size

    def read(self, start: int) -> str:
        """What was written since."""
        return os.pread(self._sink, MAX_BYTES, start).decode(errors="replace")

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                os.dup2(self._original, _STDERR)
                os.close(self._original)
                os.close(self._sink)


def _open_sink() -> int:
    """A file in memory where there are such, else one that keeps nothing."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    return os.open(os.devnull, os.O_RDWR)


_redirection = _Redirection()


@contextlib.contextmanager
def silence_native_stderr() -> Iterator[Callable[[], str]]:
    """Keep native code off stderr, for short calls whose failure is reported in one line.

    Yields:
        A function that returns what was written to stderr so far; call it inside the block.
    """
    start = _redirection.begin()
    try:
        yield lambda: _redirection.read(start)
    finally:
        _redirection.end()
