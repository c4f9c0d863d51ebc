"""Device memory and its host mirror, in named sections that one copy can carry together."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.contract import TensorSpec
from relo_edge.errors import DeviceError
from relo_edge.runtimes.tensorrt.device import Device

__all__ = ["ALIGNMENT", "Mirror", "allocate", "count_bytes"]

ALIGNMENT = 256
"""TensorRT's demand on every tensor's address."""


@dataclass(frozen=True)
class Section:
    """Where a tensor lies in a block."""

    spec: TensorSpec
    offset: int
    size: int


class Mirror:
    """One block of device memory, one of pinned memory of the same layout.

    `host` gives views of the pinned memory: writing to one while the stream may still read it, or
    using it after the memory was given back, is the caller's mistake.
    """

    def __init__(
        self, device: Device, held: ExitStack, specs: Iterable[TensorSpec], batch: int
    ) -> None:
        self._device, self._batch = device, batch
        self._sections: dict[str, Section] = {}
        end = 0
        for spec in specs:
            offset = -(-end // ALIGNMENT) * ALIGNMENT
            size = count_bytes(spec, batch)
            self._sections[spec.name] = Section(spec, offset, size)
            end = offset + size
        self._address = allocate(device, held, end)
        self._pinned = device.allocate_pinned(end)
        self._pinned[:] = 0
        held.callback(_give_back, device.free_pinned, self._pinned)

    def address(self, name: str) -> int:
        """Of a tensor on the device."""
        return self._address + self._sections[name].offset

    def host(self, name: str) -> NDArray[Any]:
        """A tensor in pinned memory, at the full batch."""
        section = self._sections[name]
        part = self._pinned[section.offset : section.offset + section.size]
        return part.view(section.spec.dtype).reshape(section.spec.at_batch(self._batch))

    def send(self, stream: int, batch: int) -> None:
        """All sections in one copy; of the last one, only the first rows."""
        *_, last = self._sections.values()
        size = last.offset + count_bytes(last.spec, batch)
        self._device.send(self._address, self._pinned[:size], stream)

    def fetch(self, stream: int) -> None:
        """All sections in one copy."""
        self._device.fetch(self._pinned, self._address, stream)


def allocate(device: Device, held: ExitStack, size: int) -> int:
    """Device memory that is given back with all else that is held."""
    address = device.allocate(size)
    held.callback(_give_back, device.free, address)
    return address


def count_bytes(spec: TensorSpec, batch: int = 1) -> int:
    """The tensor's size at that batch."""
    return prod(spec.at_batch(batch)) * np.dtype(spec.dtype).itemsize


def _give_back(free: Any, what: Any) -> None:
    """After an error of the device everything else fails too, and must not hide the first."""
    with suppress(DeviceError):
        free(what)
