"""What a client and a replica say to each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relo_edge.spec import TrackerProtocol, TrackerVariant

__all__ = ["Ask", "FleetModel", "Refusal", "TargetPart", "TemplateCrop"]


@dataclass(frozen=True)
class TemplateCrop:
    """A template's picture, and the box in it."""

    crop: NDArray[np.uint8]
    box: NDArray[np.float32]


TargetPart = TemplateCrop | NDArray[np.float32]
"""A template, or a target tensor that no template makes."""


@dataclass(frozen=True)
class Ask:
    """One request of one stream."""

    stream: str
    steps: int
    """How many steps the state has behind it, as the client knows it: 0 starts the stream."""
    target: Mapping[int | str, TargetPart] = field(default_factory=dict)
    """What is new of the target, by a template's index or a tensor's name; all where it starts."""
    pixels: NDArray[np.uint8] | None = None
    """None ends the stream."""


@dataclass(frozen=True)
class Refusal:
    """Why a replica does not answer; the client decides what becomes of the stream."""

    reason: str
    full: bool = False
    """Whether there was no room for another stream."""


@dataclass(frozen=True)
class FleetModel:
    """What the replicas run."""

    variant: TrackerVariant
    protocol: TrackerProtocol
    runtime: str
    precision: str
