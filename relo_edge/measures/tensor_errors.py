"""How far two runtimes' tensors are apart, summed up without keeping them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ErrorTally", "OutputError"]


@dataclass(frozen=True)
class OutputError:
    """One output over all samples; relative is to the reference's largest entry."""

    max_abs: float
    relative: float
    cosine: float


class ErrorTally:
    """Sums that give an output's errors without keeping its tensors."""

    def __init__(self) -> None:
        self.product = self.reference = self.candidate = self.error = self.largest = 0.0

    def add(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """One sample's tensors."""
        want, got = reference.astype(np.float64), candidate.astype(np.float64)
        self.product += float((want * got).sum())
        self.reference += float((want * want).sum())
        self.candidate += float((got * got).sum())
        # np.maximum keeps a NaN that max() would lose.
        self.error = float(np.maximum(self.error, np.abs(want - got).max()))
        self.largest = max(self.largest, float(np.abs(want).max()))

    def merge(self, other: ErrorTally) -> ErrorTally:
        """Both sides' samples together."""
        both = ErrorTally()
        for name in ("product", "reference", "candidate"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        both.error = float(np.maximum(self.error, other.error))
        both.largest = max(self.largest, other.largest)
        return both

    def sum_up(self) -> OutputError:
        """The errors of all samples together."""
        norms = np.sqrt(self.reference * self.candidate)
        cosine = self.product / norms if norms else float(self.reference == self.candidate)
        return OutputError(self.error, self.error / max(self.largest, 1e-12), float(cosine))
