"""Numbers in a file, read by offset: bounded, and never through a memory map.

A mapped file that another process cuts short kills whoever reads it; a short read is an error.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from relo_edge.host.files import open_regular

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["DAMAGED", "FileBytes", "FileState", "StoredTensor", "open_window", "read_state"]
__all__ += ["view_numbers"]

DAMAGED = "a truncated or damaged file"
FileState = tuple[int, ...]

COPIES = 8
"""How often its own size a file's tensors may take out of it: weights are tied, not more."""
LARGEST_PICKLE = 64 << 20


@dataclass(frozen=True)
class StoredTensor:
    """A tensor still in its file; `read` copies it out and raises ValueError when it is damaged."""

    shape: tuple[int, ...]
    read: Callable[[], Tensor]


class FileBytes:
    """An open file's bytes, for as long as it stays the file it was.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no regular file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.file = open_regular(path)
        self.state = _describe_state(os.fstat(self.file.fileno()))
        self.size = os.fstat(self.file.fileno()).st_size
        self._budget = COPIES * self.size + LARGEST_PICKLE

    def read(self, start: int, end: int) -> bytes:
        """These bytes; all of them, or ValueError."""
        if not 0 <= start <= end <= self.size:
            raise ValueError(DAMAGED)
        self._budget -= end - start
        if self._budget < 0:
            raise ValueError("tensors that take the file many times over")
        parts = []
        while start < end:  # one call gives at most 2 GiB
            part = os.pread(self.file.fileno(), end - start, start)
            if not part:
                raise ValueError("a file that was cut short while it was read")
            parts.append(part)
            start += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def demand_unchanged(self) -> None:
        """Refuse what was written to, or replaced by another file, since it was opened."""
        now = _describe_state(os.fstat(self.file.fileno())), read_state(self._path)
        if any(state != self.state for state in now):
            raise ValueError("a file that was changed while it was read")

    def __enter__(self) -> FileBytes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.file.close()


def read_state(path: Path) -> FileState:
    """What changes when a file is written to or replaced."""
    return _describe_state(path.stat())


def _describe_state(found: os.stat_result) -> FileState:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class _Window(io.RawIOBase):
    """A part of a file, as raw bytes to be buffered."""

    def __init__(self, data: FileBytes, start: int, end: int) -> None:
        self._data, self._position, self._end = data, start, end

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._end)
        part = self._data.read(self._position, end)
        buffer[: len(part)] = part
        self._position = end
        return len(part)


def open_window(data: FileBytes, start: int, end: int) -> BinaryIO:
    """A stream over a part of a file; no more of it than any weights' pickle takes."""
    end = min(end, start + LARGEST_PICKLE)
    return cast(BinaryIO, io.BufferedReader(_Window(data, start, end)))


def view_numbers(
    data: FileBytes,
    place: tuple[int, int],
    kind: tuple[str, int],
    view: tuple[int, tuple[int, ...], tuple[int, ...]],
) -> Tensor:
    """A tensor's copy.

    Args:
        data: the file.
        place: where the tensor's storage starts and ends in it.
        kind: the dtype's name, and the bytes of one number.
        view: offset in numbers, shape and stride of the tensor in its storage.
    """
    import torch

    (start, end), (dtype, item), (offset, shape, stride) = place, kind, view
    extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    extent = extent if math.prod(shape) else 0
    first = start + offset * item
    last = first + extent * item
    if not (0 <= first < last <= min(end, data.size)):
        raise ValueError("a tensor that its storage does not hold")
    flat = torch.frombuffer(bytearray(data.read(first, last)), dtype=getattr(torch, dtype))
    return flat.as_strided(shape, stride)
