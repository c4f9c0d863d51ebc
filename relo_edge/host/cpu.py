"""What the operating system says of the CPU."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["count_cores", "read_text"]


def read_text(path: str) -> str:
    """A file's text; nothing where there is no such file."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def count_cores() -> int:
    """The cores this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
