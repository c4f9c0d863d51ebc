"""What a tracker that is no bundle offers: one target, from its first box on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import Box
from relo_edge.tracker import Track

__all__ = ["Frame", "Peer", "PeerKind", "unscored"]

Frame = NDArray[np.uint8]
"""[height, width, 3], blue first."""


class Peer(Protocol):
    """One target; starting again forgets the last one."""

    name: str
    precision: str
    """Of its weights, as far as anybody here knows."""

    @property
    def device(self) -> str:
        """Where it runs: cpu, or a server's address."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """All that decides where it looks, as results on disk keep it."""

    def init(self, frame: Frame, box: Box) -> None:
        """Start on the box in this frame."""

    def update(self, frame: Frame) -> Track:
        """Where the target is in the next frame."""


@dataclass(frozen=True)
class PeerKind:
    """How a word becomes a tracker."""

    usage: str
    open: Callable[[str], Peer]
    """From what stands after the word's `=`."""


def unscored(box: Box, lost: bool, score: float = math.nan) -> Track:
    """A track of a tracker that says nothing of its confidence: NaN, not an invented number."""
    return Track(box, score, math.nan, lost)
