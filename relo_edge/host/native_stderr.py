"""OpenCV and FFmpeg write lines of their own about what we are about to say in one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

__all__ = ["silence_native_stderr"]

_STDERR = 2


class _Hush:
    """stderr belongs to the process: the first of several threads turns it off, the last on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._kept = -1

    def begin(self) -> None:
        with self._lock:
            if not self._users:
                self._kept = os.dup(_STDERR)
                with Path(os.devnull).open("wb") as nowhere:
                    os.dup2(nowhere.fileno(), _STDERR)
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                os.dup2(self._kept, _STDERR)
                os.close(self._kept)


_hush = _Hush()


@contextlib.contextmanager
def silence_native_stderr() -> Iterator[None]:
    """Send what is written to stderr nowhere; only for short calls whose failure we report."""
    _hush.begin()
    try:
        yield
    finally:
        _hush.end()
