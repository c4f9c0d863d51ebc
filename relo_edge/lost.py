"""When a target counts as lost, and how it is searched for, which is off by default."""

from __future__ import annotations

import math
from dataclasses import dataclass

from relo_edge.errors import InputError

__all__ = ["LostRule", "Recovery"]


@dataclass(frozen=True)
class Recovery:
    """How a tracker searches for a lost target.

    It returns to the last box of sufficient confidence and holds it, searches around it with a
    crop that widens by `steps`, over and over, and resumes where the confidence reaches `resume`.
    The temporal state is held too: frames of low confidence leave no trace in it.

    Attributes:
        steps: how many times larger than usual the search crop is, frame by frame.
        resume: the confidence at which the target counts as found, from 0 to 1.

    Raises:
        InputError: a step that is not above 0, or a confidence out of range.
    """

    steps: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    resume: float = 0.5

    def __post_init__(self) -> None:
        sound = all(math.isfinite(step) and step > 0 for step in self.steps)
        if not self.steps or not sound or not 0 < self.resume <= 1:
            raise InputError(
                "recovery",
                found=f"steps {self.steps}, resume {self.resume}",
                expected="steps above 0 and a confidence from 0 to 1",
            )

    def widen(self, searches: int) -> float:
        """The factor for the next search crop, after so many failed searches."""
        return self.steps[searches % len(self.steps)]


@dataclass(frozen=True)
class LostRule:
    """A target counts as lost once its confidence stays under `threshold` for `patience` frames.

    The first frame at or above the threshold ends that.

    Attributes:
        threshold: a confidence, from 0 to 1.
        patience: frames in a row, 1 or more.

    Raises:
        InputError: a value out of range.
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
