"""When a target counts as lost, and how it is looked for: off unless asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relo_edge.errors import InputError

__all__ = ["LostRule", "Recovery"]


@dataclass(frozen=True)
class Recovery:
    """What a tracker does once a target counts as lost.

    It goes back to the last box it was sure of and holds it, looks around it with a crop that
    widens by these steps, over and over, and goes on where its confidence reaches `resume`.
    The network's temporal state is held too: frames in which the tracker is not sure, from the
    first doubtful one on, leave no trace in it.
    """

    steps: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """How many times wider than usual the search crop is, frame by frame."""
    resume: float = 0.5

    def __post_init__(self) -> None:
        sound = all(math.isfinite(step) and step > 0 for step in self.steps)
        if not self.steps or not sound or not 0 < self.resume <= 1:
            raise InputError(
                "recovery",
                found=f"steps {self.steps}, resume {self.resume}",
                expected="steps above 0 and a confidence from 0 to 1",
            )

    def widen(self, looks: int) -> float:
        """How wide the next look is, after so many in vain."""
        return self.steps[looks % len(self.steps)]


@dataclass(frozen=True)
class LostRule:
    """A target counts as lost once its confidence stays under `threshold` for `patience` frames.

    The first frame at or above the threshold finds it again.
    """

    threshold: float = 0.25
    patience: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or self.patience < 1:
            raise InputError(
                "lost rule",
                found=f"threshold {self.threshold}, patience {self.patience}",
                expected="a threshold from 0 to 1 and a patience of 1 frame or more",
            )
