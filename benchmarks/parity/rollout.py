"""One clip tracked by both sides: on the same crops, then by the candidate alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relo_edge.benchmarks.parity.paired_runtime import TwinRuntime
from relo_edge.clips.clip import Clip, find_clips, make_synthetic_clip
from relo_edge.errors import SourceError
from relo_edge.geometry import Box, Floats
from relo_edge.measures.closed_loop import NUDGES, follow_target, measure_overlaps_or_nan, nudge_box
from relo_edge.runtime import Runtime

__all__ = ["Rollout", "Stretch", "compare_clips", "count_frames", "find_stretches", "track_nudged"]

SEEDS = range(2)
FRAMES = 30
LONGEST = 90
"""Frames of a user's clip that are compared."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """The frames of a clip that are compared, the start frame first, and the target's box in it."""

    clip: Clip
    frames: range
    box: Box

    @property
    def truth(self) -> Floats | None:
        """The true boxes of the frames after the start frame."""
        return None if self.clip.truth is None else self.clip.truth[list(self.frames[1:])]


@dataclass(frozen=True, eq=False)
class Rollout:
    """What both sides did in a stretch; the boxes are those of the frames after the start frame."""

    stretch: Stretch
    twin: TwinRuntime
    expected: Floats
    """Where the reference saw the target."""
    boxes: Floats
    """Where the candidate, choosing its own crops, saw it."""
    nudged: Sequence[Floats]
    """Where the reference saw it, its start a hair off this way and that."""

    @cached_property
    def overlaps(self) -> Floats:
        """The closed-loop IoU, frame by frame."""
        return measure_overlaps_or_nan(self.boxes, self.expected)

    @property
    def sway(self) -> list[Floats]:
        """The reference's closed-loop IoU with itself, nudge by nudge and frame by frame."""
        return [measure_overlaps_or_nan(boxes, self.expected) for boxes in self.nudged]

    @cached_property
    def reference_overlaps(self) -> Floats:
        """The reference's own overlap with the truth; NaN where that is not known."""
        return measure_overlaps_or_nan(self.expected, self.stretch.truth)

    @property
    def reference_iou(self) -> float | None:
        """The mean of it, where there is one."""
        overlaps = self.reference_overlaps
        return float(np.nanmean(overlaps)) if np.isfinite(overlaps).any() else None


def find_stretches(paths: Sequence[str]) -> list[Stretch]:
    """A stretch of each clip that the paths name, or of the built-in ones."""
    if not paths:
        return [_cut_clip(make_synthetic_clip(seed, FRAMES), FRAMES) for seed in SEEDS]
    return [_cut_clip(clip, LONGEST) for clip in find_clips(paths)]


def count_frames(stretches: Sequence[Stretch], candidates: int = 1) -> int:
    """How often `advance` will be called for so many candidates, nudges tracked once."""
    return (len(NUDGES) + 2 * candidates) * sum(len(stretch.frames) - 1 for stretch in stretches)


def track_nudged(
    reference: Runtime, stretches: Sequence[Stretch], advance: Callable[[], None] = lambda: None
) -> list[list[Floats]]:
    """What the reference makes of starts a hair off: how closely anyone can be asked to follow."""
    return [
        [_track(reference, stretch, box, advance) for box in nudge_box(stretch.box)]
        for stretch in stretches
    ]


def compare_clips(
    reference: Runtime,
    candidate: Runtime,
    stretches: Sequence[Stretch],
    advance: Callable[[], None] = lambda: None,
    nudged: Sequence[Sequence[Floats]] | None = None,
) -> list[Rollout]:
    """Track each stretch twice: the reference leads, then the candidate goes its own way.

    What the reference makes of nudges may be given, as it is the same beside every candidate.
    """
    rollouts = []
    controls = nudged or track_nudged(reference, stretches, advance)
    for stretch, control in zip(stretches, controls, strict=True):
        twin = TwinRuntime(reference, candidate)
        expected = _track(twin, stretch, stretch.box, advance)
        boxes = _track(candidate, stretch, stretch.box, advance)
        rollouts.append(Rollout(stretch, twin, expected, boxes, control))
    return rollouts


def _track(runtime: Runtime, stretch: Stretch, box: Box, advance: Callable[[], None]) -> Floats:
    with closing(stretch.clip.read_frames(stretch.frames)) as frames:
        return follow_target(runtime, frames, box, advance)


def _cut_clip(clip: Clip, length: int) -> Stretch:
    """From the first frame in which a target can be set and that has another after it."""
    start = clip.starts[0]
    stop = min(start.frame + length, clip.frame_count)
    if stop - start.frame < 2:
        raise SourceError(
            f"clip {clip.name}",
            found="a target in its last frame only",
            expected="a target and a frame after it",
            fix="leave this clip out",
        )
    return Stretch(clip, range(start.frame, stop), start.box)
