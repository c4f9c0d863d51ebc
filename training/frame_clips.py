"""Synthetic clips as whole small frames, each a function of seed and item number."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from relo_edge.geometry import box_in_frame, resize_frame
from relo_edge.synthetic.clip import make_clip
from relo_edge.training.synthetic_batches import Items, load_items

__all__ = ["FrameClipSettings", "FrameClips", "draw_clip", "stream_frame_clips"]

FIRST_SEED = 1_000_000
"""Training's clips; those below are held out."""
PLANNED = 90
"""Frames of a clip of which a part is shown."""
INTERVALS = 4
"""The largest interval between two frames: long ways, without the cost of long clips."""
REPEATS = 4
"""Steps in a row that see the same clips, for the same reason as the next."""
MIRRORS = 4
"""Clips that are made of each one drawn, for drawing takes longest."""
DRAWN = (192, 108)
"""Clips are drawn at this size and then shrunk."""


@dataclass(frozen=True, eq=False)
class FrameClips:
    """A batch of clips, every frame with its target's true box."""

    frames: Tensor
    """[B,T,S,S,3] uint8 RGB"""
    boxes: Tensor
    """[B,T,4] centre and size, in shares of the frame"""
    progress: float = 0.0
    """How much of the run is done, from 0 to 1."""

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device) -> FrameClips:
        """The same on another device."""
        return FrameClips(self.frames.to(device), self.boxes.to(device), self.progress)


@dataclass(frozen=True)
class FrameClipSettings:
    """Number and length of an item's clips."""

    clips: int
    frames: int
    first_frames: int
    """Frames at the first step; they grow to `frames` over the first half of the steps."""
    frame_size: int
    steps: int
    seed: int = 0
    parts: int = 1
    """Parts of a step, shared out among processes."""

    def measure_progress(self, item: int) -> float:
        """How much of the run is done at an item."""
        return min(1.0, item // self.parts / self.steps)

    def grow(self, item: int) -> int:
        """Frames of an item's clips."""
        share = min(1.0, 2 * self.measure_progress(item))
        return self.first_frames + int(share * (self.frames - self.first_frames))


@dataclass(frozen=True, eq=False)
class _DrawnClips(Dataset[FrameClips]):
    settings: FrameClipSettings
    last: dict[int, FrameClips] = field(default_factory=dict)
    """The drawn item that was asked for last."""

    def __getitem__(self, item: int) -> FrameClips:
        settings = self.settings
        step, part = divmod(item, settings.parts)
        drawn = step // REPEATS * REPEATS * settings.parts + part
        if drawn not in self.last:
            self.last.clear()
            self.last[drawn] = self._draw(drawn)
        return replace(self.last[drawn], progress=settings.measure_progress(item))

    def _draw(self, item: int) -> FrameClips:
        settings = self.settings
        rng = np.random.default_rng((settings.seed, item))
        count = settings.grow(item)
        drawn = []
        for _ in range(settings.clips // MIRRORS):
            longest = min(INTERVALS, (PLANNED - 1) // (count - 1))
            order = rng.integers(1, longest + 1) * np.arange(count, dtype=np.int64)
            order += rng.integers(0, PLANNED - order[-1])
            clip = draw_clip(_draw_seed(rng), order, settings.frame_size)
            drawn += [_mirror(*clip, sides, rng.permutation(3)) for sides in range(MIRRORS)]
        frames, boxes = (torch.stack(one) for one in zip(*drawn, strict=True))
        return FrameClips(frames, boxes)


def draw_clip(
    seed: int,
    order: NDArray[np.int64],
    frame_size: int,
    drawn: tuple[int, int] = DRAWN,
) -> tuple[Tensor, Tensor]:
    """Some frames of one clip [T,S,S,3], as a DRLT sees them, and the true boxes [T,4]."""
    clip = make_clip(seed, int(order[-1]) + 1, drawn)
    frames = [resize_frame(frame[..., ::-1], frame_size) for frame in clip.frames(order)]
    boxes = [box_in_frame(box, drawn) for box in clip.boxes[order]]
    return torch.from_numpy(np.stack(frames)), torch.from_numpy(np.stack(boxes))


def _mirror(
    frames: Tensor, boxes: Tensor, sides: int, colours: NDArray[np.int64]
) -> tuple[Tensor, Tensor]:
    """The clip in another order of colours, mirrored across, down, both or neither."""
    frames, boxes = frames[..., torch.from_numpy(colours)], boxes.clone()
    for axis in range(2):
        if sides >> axis & 1:
            frames = frames.flip(2 - axis)
            boxes[:, axis] = 1 - boxes[:, axis]
    return frames.contiguous(), boxes


def stream_frame_clips(
    settings: FrameClipSettings, items: Items | None = None
) -> Generator[FrameClips, None, None]:
    """The batch of each item, drawn ahead by a process of its own."""
    return load_items(_DrawnClips(settings), items, 1)


def _draw_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(FIRST_SEED, 1 << 31))
