"""What every label format is written from: the clip, and its targets' boxes frame by frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from relo_edge.geometry import Box

__all__ = ["LabelledBox", "LabelledClip", "LabelledTarget", "Labels"]


class LabelledClip(NamedTuple):
    """What was tracked."""

    name: str
    size: tuple[int, int]
    """Width, height."""
    fps: float


class LabelledBox(NamedTuple):
    """A target's box in a frame."""

    frame: int
    box: Box
    """Within the picture."""
    confidence: float
    visible: bool
    """False where the target was lost or left the picture: there is nothing to label then."""


@dataclass
class LabelledTarget:
    """A target's boxes, in the order of frames."""

    label: str
    """The class people see: the target's name, or `target` where it has none."""
    boxes: list[LabelledBox] = field(default_factory=list)


class Labels(NamedTuple):
    """All that a file holds."""

    clip: LabelledClip
    targets: list[LabelledTarget]

    @property
    def last_frame(self) -> int:
        """The number of the last frame that was tracked."""
        return max((target.boxes[-1].frame for target in self.targets), default=-1)

    @property
    def names(self) -> list[str]:
        """The classes, each once."""
        return list(dict.fromkeys(target.label for target in self.targets))
