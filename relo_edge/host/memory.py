"""The C library's heaps: how many a process has."""

from __future__ import annotations

import ctypes
import os

__all__ = ["share_one_heap"]

M_ARENA_MAX = -8
"""glibc's number for it."""


def share_one_heap() -> bool:
    """Let all threads that start later take memory from one heap, where the C library is glibc.

    It gives each thread a heap of its own, up to eight a core. A frame is made in one thread and
    dropped in another, so each heap grows to the most that was ever alive in it, and stays there:
    a process whose sources come and go would grow for hours. Once there are more than eight, glibc
    keeps to its own limit. `MALLOC_ARENA_MAX`, where it is set, is left alone.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1))
    except (AttributeError, OSError, TypeError):  # another C library, or none by that name
        return False
