"""The first GPU: an engine runs on the one it was built on, and names alone do not tell it apart.

Every Orin calls itself "Orin" of compute capability 8.7; board, SM count and power mode differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from relo_edge.host.cpu import read_text
from relo_edge.host.libcuda import list_devices
from relo_edge.host.tools import read_power_mode

__all__ = ["Gpu", "find_gpu"]


@dataclass(frozen=True)
class Gpu:
    """The first GPU, as the driver and the board name it."""

    name: str
    capability: tuple[int, int]
    sm_count: int = 0
    board: str = ""
    """A Jetson's model; nothing where the GPU is a card."""
    power_mode: str = ""

    @property
    def label(self) -> str:
        """Its identity as part of a file's name."""
        slug = re.sub(r"[^a-z0-9]+", "-", (self.board or self.name).lower()).strip("-")
        return f"{slug}-{self.sm_count}sm" if self.sm_count else slug


def find_gpu() -> Gpu | None:
    """The first GPU; without a driver, none."""
    try:
        devices = list_devices()["devices"]
    except OSError:
        return None
    if not devices:
        return None
    first = devices[0]
    major, minor = first["capability"]
    board = read_text("/proc/device-tree/model").strip("\0\n")
    return Gpu(first["name"], (major, minor), first["sm_count"], board, read_power_mode())
