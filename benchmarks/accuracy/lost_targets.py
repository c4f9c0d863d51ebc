"""What looking for lost targets is worth: clips whose target leaves and comes back elsewhere.

`python -m relo_edge.benchmarks.accuracy.lost_targets BUNDLE` prints it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from relo_edge.geometry import box_iou, read_box
from relo_edge.lost import Recovery
from relo_edge.runtime import Runtime, open_runtime
from relo_edge.synthetic.clip import SyntheticClip, make_clip
from relo_edge.tracker import Track, Tracker

__all__ = ["RecoveryResult", "RecoveryRow", "hide_target", "measure_recovery"]

CLIPS = 6
FRAMES = 150
ABSENCES = ((30, 50), (85, 120))
"""First frame without the target, and first with it again."""

GRACE = 15
"""Frames after a return in which the target may be found; those that follow are judged."""

FOUND = 0.5
"""Overlap from which on it counts as found."""

FAR = 10.0
"""Picture sizes by which an absent target is moved out of the picture."""


@dataclass(frozen=True)
class RecoveryRow:
    """How one setting did."""

    recover: bool
    returns: int
    found: int
    """Returns after which the target is followed again."""
    iou_after: float
    """Mean overlap with the truth in the frames judged."""
    iou_before: float
    """The same until the first absence: whether these weights track at all."""
    sure_while_away: float
    """The share of frames without a target in which it does not count as lost."""

    def describe(self) -> str:
        """One line."""
        name = "with recovery" if self.recover else "without"
        return (
            f"{name:<14} found {self.found} of {self.returns}, mean IoU {self.iou_after:.3f} after "
            f"a return ({self.iou_before:.3f} before), not lost in {self.sure_while_away:.0%} of "
            "the frames without a target"
        )


@dataclass(frozen=True)
class RecoveryResult:
    """The same clips with and without."""

    runtime: str
    rows: tuple[RecoveryRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def describe(self) -> str:
        """The same for a reader."""
        return "\n".join([f"run by {self.runtime}", *(row.describe() for row in self.rows)])


def hide_target(clip: SyntheticClip, absences: Sequence[tuple[int, int]]) -> SyntheticClip:
    """The same clip with its target out of the picture in these frames; its boxes there are NaN."""
    target, boxes = clip.target.copy(), clip.boxes.copy()
    for left, back in absences:
        target[left:back, 0] -= FAR * clip.size[0]
        boxes[left:back] = np.nan
    return replace(clip, target=target, boxes=boxes)


def measure_recovery(
    runtime: Runtime,
    clips: Sequence[SyntheticClip] | None = None,
    recovery: Recovery | None = None,
    advance: Callable[[], None] = lambda: None,
) -> RecoveryResult:
    """Track the clips without and with recovery."""
    if clips is None:
        clips = [hide_target(make_clip(seed, FRAMES), ABSENCES) for seed in range(CLIPS)]
    rows = []
    for setting in (None, recovery or Recovery()):
        runs = []
        for clip in clips:
            runs.append((clip, _follow(runtime, clip, setting)))
            advance()
        rows.append(_judge_runs(setting is not None, runs))
    return RecoveryResult(f"{runtime.name} in {runtime.precision}", tuple(rows))


def _follow(runtime: Runtime, clip: SyntheticClip, recovery: Recovery | None) -> list[Track]:
    tracker, frames = Tracker(runtime, color="bgr", recovery=recovery), clip.frames()
    tracker.init(next(frames), read_box(clip.boxes[0]))
    return [tracker.update(frame) for frame in frames]


def _judge_runs(recover: bool, runs: Sequence[tuple[SyntheticClip, list[Track]]]) -> RecoveryRow:
    before: list[float] = []
    after: list[list[float]] = []
    away: list[bool] = []
    for clip, tracks in runs:
        absent = np.isnan(clip.boxes).any(axis=1)
        away += [not tracks[index - 1].lost for index in np.flatnonzero(absent)]
        first = int(np.argmax(absent))
        before += _overlap(clip, tracks, range(1, first))
        edges = np.flatnonzero(np.diff(absent.astype(int)))
        # Absences begin and end in turn; what follows an end lasts to the next beginning.
        spans = [*(int(edge) + 1 for edge in edges), len(clip)]
        after += [
            _overlap(clip, tracks, range(back + GRACE, end))
            for back, end in zip(spans[1::2], spans[2::2], strict=False)
        ]
    means = [float(np.mean(overlaps)) for overlaps in after]
    return RecoveryRow(
        recover=recover,
        returns=len(after),
        found=sum(mean >= FOUND for mean in means),
        iou_after=float(np.mean([overlap for overlaps in after for overlap in overlaps])),
        iou_before=float(np.mean(before)),
        sure_while_away=float(np.mean(away)),
    )


def _overlap(clip: SyntheticClip, tracks: list[Track], frames: range) -> list[float]:
    return [box_iou(tracks[index - 1].box, read_box(clip.boxes[index])) for index in frames]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="demo")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with closing(open_runtime(chosen.bundle)) as runtime:
        result = measure_recovery(runtime)
    print(json.dumps(result.to_dict()) if chosen.json else result.describe())


if __name__ == "__main__":
    _main()
