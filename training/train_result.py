"""What a run of training reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relo_edge.training.box_trial import BoxTrial
from relo_edge.training.closed_loop_trial import Trial
from relo_edge.training.held_out import HeldOutTrial

__all__ = ["TrainResult"]


@dataclass(frozen=True)
class TrainResult:
    """A run's files, length and accuracy."""

    stage: str
    variant: str
    checkpoint: Path
    steps: int
    clips: int
    hours: float
    finished: bool
    trial: Trial | BoxTrial | None
    """Accuracy on held-out synthetic clips; None without a policy or a trial."""
    ranges: Path | None = None
    """INT8 ranges for `quantize --ranges`, from qat alone."""
    held_out: HeldOutTrial | None = None
    """Accuracy on held-out objects; None without cut-outs."""
    rank: int = 0
    """Rank of this process among several."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        paths = {"checkpoint": str(self.checkpoint), "ranges": self.ranges and str(self.ranges)}
        plain = asdict(self) | paths
        del plain["rank"]
        return plain

    def describe(self) -> str:
        """For a reader."""
        end = "done" if self.finished else "interrupted, the same command goes on"
        head = (
            f"{self.stage} of {self.variant}: {self.steps} steps, {self.clips} clips, "
            f"{self.hours:.2f} hours, {end}"
        )
        trials = [one.describe() for one in (self.trial, self.held_out) if one]
        files = [self.checkpoint, self.ranges] if self.ranges else [self.checkpoint]
        return "\n".join([head, *trials, *map(str, files)])
