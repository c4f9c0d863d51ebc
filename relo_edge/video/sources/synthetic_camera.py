"""A synthetic camera: rendered frames at a steady rate, for trials and tests."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from itertools import chain, cycle, islice
from typing import Any

from relo_edge.synthetic.clip import RATE, make_clip
from relo_edge.video.sources.frames import Frame, FrameSource
from relo_edge.video.sources.options import read_count, read_fps, read_options, read_size

__all__ = ["open_synthetic", "order_frames"]

CLIP_FRAMES = 900
"""Then the clip plays backwards, and so on, without a jump."""

READERS = {
    "seed": read_count(0, 2**31),
    "size": read_size,
    "fps": read_fps,
    "frames": read_count(1, 10**9),
}


def open_synthetic(source: str) -> FrameSource:
    """The camera that `synthetic:seed=0,size=640x480,fps=30,frames=90` describes.

    Without `frames` it never ends.
    """
    chosen: Any = read_options(source, source.partition(":")[2], READERS)
    fps, count = chosen.get("fps", RATE), chosen.get("frames")
    clip = make_clip(chosen.get("seed", 0), CLIP_FRAMES, chosen.get("size", (640, 480)))
    frames = _keep_pace(clip.frames(islice(order_frames(CLIP_FRAMES), count)), fps)
    return FrameSource("synthetic", frames, fps, count, live=True)


def order_frames(count: int) -> Iterator[int]:
    """Frame numbers forwards and backwards for ever; the true boxes come in the same order."""
    return cycle(chain(range(count), range(count - 2, 0, -1)))


def _keep_pace(frames: Iterator[Frame], fps: float) -> Generator[Frame, None, None]:
    """Each frame when it is due; after a delay the camera does not hurry."""
    due = time.monotonic()
    for frame in frames:
        time.sleep(max(due - time.monotonic(), 0))
        yield frame
        due = max(due + 1 / fps, time.monotonic())
