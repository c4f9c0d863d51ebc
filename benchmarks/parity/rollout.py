"""One clip tracked by both sides: on the same crops, then by the candidate alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from relo_edge.benchmarks.parity.paired_runtime import PairedRuntime
from relo_edge.clips.clip import Clip, find_clips, make_synthetic_clip
from relo_edge.errors import SourceError
from relo_edge.geometry import Box, Floats
from relo_edge.measures.closed_loop import (
    START_SHIFTS,
    follow_target,
    measure_overlaps_or_nan,
    perturb_start,
)
from relo_edge.runtime import Runtime

__all__ = [
    "ClipSegment",
    "Rollout",
    "compare_clips",
    "count_frames",
    "find_segments",
    "track_perturbed",
]

SEEDS = range(2)
FRAMES = 30
LONGEST = 90
"""Frames of a user's clip that are compared."""


@dataclass(frozen=True, eq=False)
class ClipSegment:
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
    """What both sides did in a segment; the boxes are those of the frames after the start frame."""

    segment: ClipSegment
    paired: PairedRuntime
    expected: Floats
    """Where the reference saw the target."""
    boxes: Floats
    """Where the candidate, choosing its own crops, saw it."""
    perturbed: Sequence[Floats]
    """Where the reference saw it from perturbed starts."""

    @cached_property
    def overlaps(self) -> Floats:
        """The closed-loop IoU, frame by frame."""
        return measure_overlaps_or_nan(self.boxes, self.expected)

    @property
    def perturbed_overlaps(self) -> list[Floats]:
        """The reference's closed-loop IoU with itself, for each perturbed start, by frame."""
        return [measure_overlaps_or_nan(boxes, self.expected) for boxes in self.perturbed]

    @cached_property
    def reference_overlaps(self) -> Floats:
        """The reference's own overlap with the truth; NaN where that is not known."""
        return measure_overlaps_or_nan(self.expected, self.segment.truth)

    @property
    def reference_iou(self) -> float | None:
        """The mean of it, where there is one."""
        overlaps = self.reference_overlaps
        return float(np.nanmean(overlaps)) if np.isfinite(overlaps).any() else None


def find_segments(paths: Sequence[str]) -> list[ClipSegment]:
    """A segment of each clip that the paths name, or of the built-in ones."""
    if not paths:
        return [_cut_clip(make_synthetic_clip(seed, FRAMES), FRAMES) for seed in SEEDS]
    return [_cut_clip(clip, LONGEST) for clip in find_clips(paths)]


def count_frames(segments: Sequence[ClipSegment], candidates: int = 1) -> int:
    """How often `advance` will be called for so many candidates; perturbed starts once."""
    return (len(START_SHIFTS) + 2 * candidates) * sum(
        len(segment.frames) - 1 for segment in segments
    )


def track_perturbed(
    reference: Runtime, segments: Sequence[ClipSegment], advance: Callable[[], None] = lambda: None
) -> list[list[Floats]]:
    """The reference from perturbed starts: how closely a candidate can be asked to follow it."""
    return [
        [_track(reference, segment, box, advance) for box in perturb_start(segment.box)]
        for segment in segments
    ]


def compare_clips(
    reference: Runtime,
    candidate: Runtime,
    segments: Sequence[ClipSegment],
    advance: Callable[[], None],
    perturbed: Sequence[Sequence[Floats]],
) -> list[Rollout]:
    """Track each segment twice: the reference leads, then the candidate goes its own way.

    `perturbed` are the reference's boxes from perturbed starts, by segment.
    """
    rollouts = []
    for segment, shifted in zip(segments, perturbed, strict=True):
        paired = PairedRuntime(reference, candidate)
        expected = _track(paired, segment, segment.box, advance)
        boxes = _track(candidate, segment, segment.box, advance)
        rollouts.append(Rollout(segment, paired, expected, boxes, shifted))
    return rollouts


def _track(runtime: Runtime, segment: ClipSegment, box: Box, advance: Callable[[], None]) -> Floats:
    with closing(segment.clip.read_frames(segment.frames)) as frames:
        return follow_target(runtime, frames, box, advance)


def _cut_clip(clip: Clip, length: int) -> ClipSegment:
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
    return ClipSegment(clip, range(start.frame, stop), start.box)
