"""Memory that threads leave behind: what the C library keeps for each of them."""

from __future__ import annotations

import ctypes
import os

__all__ = ["limit_arenas"]

ARENAS = 2
M_ARENA_MAX = -8
"""glibc's number for it."""


def limit_arenas() -> bool:
    """Let all threads share a few heaps, where the C library is glibc.

    It gives each thread a heap of its own, up to eight a core, and none shrinks: a process whose
    sources come and go would grow for hours. `MALLOC_ARENA_MAX`, where it is set, is left alone.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, ARENAS))
    except (AttributeError, OSError, TypeError):  # another C library, or none by that name
        return False
