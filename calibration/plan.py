"""The runs to record: which frames of which clips, drawn from a seed, spread evenly over clips."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.clips.clip import Clip
from relo_edge.errors import InputError
from relo_edge.geometry import Box

__all__ = ["FRAMES", "Run", "plan_runs"]

FRAMES = 200

SHORTEST, LONGEST = 5, 20
"""Recorded frames from one restart to the next: enough for a history, often enough without one."""

PACES = tuple(product((1, 2, 3), (False, True)))
"""Stride and direction."""

JITTER = 0.1
"""The largest shift of a start box, as a share of its sides."""


@dataclass(frozen=True)
class Run:
    """One target followed from its start frame through `length` frames more, which are recorded."""

    clip: Clip
    start: int
    stride: int
    backwards: bool
    box: Box
    length: int

    @property
    def frames(self) -> range:
        """The numbers of the clip's frames, the start frame first."""
        step = -self.stride if self.backwards else self.stride
        return range(self.start, self.start + step * (self.length + 1), step)

    @property
    def truth(self) -> NDArray[np.float64] | None:
        """The true boxes of the recorded frames, where the clip has them; NaN for an absent one."""
        return None if self.clip.truth is None else self.clip.truth[list(self.frames[1:])]

    def to_dict(self) -> dict[str, Any]:
        """Plain data that identifies the run."""
        return {**vars(self), "clip": self.clip.name, "box": list(self.box)}


def plan_runs(clips: Sequence[Clip], frames: int = FRAMES, seed: int = 0) -> list[Run]:
    """Runs of so many recorded frames in all, as many for each clip."""
    if not clips:
        raise InputError("calibration clips", found="none", expected="1 or more")
    if frames < 1:
        raise InputError("frames to record", found=frames, expected="1 or more")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(clips))
    limit = min(max(math.ceil(frames / len(clips)), SHORTEST), LONGEST)
    runs: list[Run] = []
    while frames:
        turn = len(runs) % len(PACES)
        if turn == 0:
            paces = rng.permutation(len(PACES))
        clip = clips[order[len(runs) % len(clips)]]
        run = _draw_run(clip, min(limit, frames), PACES[paces[turn]], rng)
        runs.append(run)
        frames -= run.length
    return runs


def _draw_run(clip: Clip, limit: int, pace: tuple[int, bool], rng: np.random.Generator) -> Run:
    """A run at this pace from a random start with enough frames; a short clip gets another pace."""
    reach = _measure_reach(clip, pace, limit)
    if reach.max() < min(limit, SHORTEST):
        pace = max(PACES, key=lambda other: _measure_reach(clip, other, limit).max())
        reach = _measure_reach(clip, pace, limit)
    start = clip.starts[rng.choice(np.flatnonzero(reach == reach.max()))]
    box = _jitter_box(start.box, rng)
    return Run(clip, start.frame, *pace, box, int(reach.max()))


def _measure_reach(clip: Clip, pace: tuple[int, bool], limit: int) -> NDArray[np.int64]:
    """How many frames can be tracked from each of the clip's starts."""
    stride, backwards = pace
    starts = np.array([start.frame for start in clip.starts])
    room = starts if backwards else clip.frame_count - 1 - starts
    reach: NDArray[np.int64] = np.minimum(room // stride, limit)
    return reach


def _jitter_box(box: Box, rng: np.random.Generator) -> Box:
    """The box with the error that a user's or a detector's has."""
    x, y, width, height = box
    right, down, wider, higher = rng.uniform(-JITTER, JITTER, 4).tolist()
    new_width, new_height = width * math.exp(wider), height * math.exp(higher)
    left = x + width * (0.5 + right) - new_width / 2
    top = y + height * (0.5 + down) - new_height / 2
    return (left, top, new_width, new_height)
