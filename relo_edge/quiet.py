"""OpenCV and FFmpeg write lines of their own about what we are about to say in one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["hush_libraries"]

_STDERR = 2


@contextlib.contextmanager
def hush_libraries() -> Iterator[None]:
    """Send what is written to stderr nowhere; only for short calls whose failure we report."""
    kept = os.dup(_STDERR)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), _STDERR)
        yield
    finally:
        os.dup2(kept, _STDERR)
        os.close(kept)
