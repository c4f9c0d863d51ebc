"""What every runtime offers, so that the tracker, parity and benchmarks never ask which one it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.spec import Variant

__all__ = ["Runtime", "StepResult"]


@dataclass(frozen=True)
class StepResult:
    """One step's answer for n targets; the arrays belong to the caller and are never overwritten."""

    boxes: NDArray[np.float32]
    """[n,4] cx, cy, w, h relative to the search crop."""
    scores: NDArray[np.float32]
    """[n] windowed logit of the chosen cell."""
    policy_logits: NDArray[np.float32]
    """[n,grid,grid] before the window."""


class Runtime(Protocol):
    """One opened bundle: up to `batch` targets, each in a slot that keeps its templates and state.

    A slot's template tokens and temporal state stay on the runtime's own device between calls.
    """

    name: str
    precision: str
    device: str
    variant: Variant
    batch: int

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: NDArray[np.float32]
    ) -> None:
        """Keep an RGB template crop, its box (x, y, w, h) normalised, as the slot's template `index`."""

    def forget(self, slot: int) -> None:
        """Drop the slot's history: its next step is a first frame."""

    def step(
        self,
        slots: Sequence[int],
        searches: NDArray[np.uint8],
        window: NDArray[np.float32],
    ) -> StepResult:
        """Localize one RGB search crop for each slot named, and carry those slots' state on."""

    def close(self) -> None:
        """Give back what the runtime holds; closing twice is fine."""
