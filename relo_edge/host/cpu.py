"""What the operating system says of the CPU."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["count_cores", "find_values", "has_exact_int8", "read_text"]


def read_text(path: str) -> str:
    """A file's text; nothing where there is no such file."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def find_values(text: str, key: str) -> list[str]:
    """All values of a key in text made of `key : value` lines."""
    return re.findall(rf"^{key}\s*:\s*(.+?)\s*$", text, re.MULTILINE)


def count_cores() -> int:
    """The cores this process may use, which can be fewer than there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def has_exact_int8() -> bool:
    """Whether sums of INT8 products fit: on an x86 without VNNI they are made in 16 bits."""
    return all("vnni" in flags for flags in find_values(read_text("/proc/cpuinfo"), "flags")[:1])
