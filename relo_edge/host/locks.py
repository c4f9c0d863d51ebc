"""One writer at a time: locks that end with the process that holds them, however it ends.

Windows has none of this kind: nothing is locked there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from relo_edge.errors import InputError

try:
    fcntl: Any = import_module("fcntl")
except ImportError:  # Windows
    fcntl = None

__all__ = ["hold", "is_abandoned", "lock_output"]


@contextmanager
def lock_output(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Be the only one that writes this file or folder, by a lock file beside it.

    Args:
        path: what is going to be written.
        wait: whether to wait for another writer to end.

    Raises:
        InputError: another process writes it, and `wait` is not given.
    """
    file = path.with_name(f".{path.name}.lock")
    descriptor = None
    with suppress(OSError):  # no lock can be made here; whether `path` can, its writer will say
        descriptor = _take(file, path, wait) if fcntl else None
    if descriptor is None:
        yield
        return
    try:
        yield
    finally:
        # Removed before it is unlocked: whoever waited finds another file there, and tries again.
        file.unlink(missing_ok=True)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _take(file: Path, path: Path, wait: bool) -> int:
    """A descriptor of the lock file, once it is ours."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    while True:
        descriptor = os.open(file, flags, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_still(file, descriptor):
                with suppress(OSError):  # on a full disk the next writer is not told by whom
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, b"%d\n" % os.getpid())
                return descriptor
        except BlockingIOError:
            writer = os.read(descriptor, 32).decode(errors="replace").strip()
            os.close(descriptor)
            raise InputError(
                f"output {str(path)!r} is being written",
                found=f"process {writer}" if writer.isdigit() else "another process",
                fix="wait until it has ended, or choose another output",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether the name still leads to what was opened under it."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Mark a temporary file or folder as in use, so that nobody takes it for a dead process's."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a disk without locks
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def is_abandoned(path: Path) -> bool:
    """Whether nobody holds this temporary file or folder any more."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True
