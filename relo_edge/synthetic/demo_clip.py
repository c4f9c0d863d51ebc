"""The word `demo` as a source: one synthetic clip that the built-in weights can follow."""

from __future__ import annotations

from pathlib import Path

from relo_edge.geometry import Box, read_box
from relo_edge.synthetic.clip import SyntheticClip, make_clip

__all__ = ["DEMO", "find_demo_box", "is_demo", "make_demo_clip"]

DEMO = "demo"
SEED = 11
FRAMES = 90


def is_demo(source: str) -> bool:
    """Whether a source is the word, and no file or folder of that name."""
    return source == DEMO and not Path(source).exists()


def make_demo_clip() -> SyntheticClip:
    """The clip; its frames are drawn as they are read."""
    return make_clip(SEED, FRAMES)


def find_demo_box(frame: int) -> Box:
    """The target's true box in a frame, or in the last one."""
    return read_box(make_demo_clip().boxes[min(frame, FRAMES - 1)])
