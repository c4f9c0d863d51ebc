"""What every source gives: frames in order, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relo_edge.host.opencv import cv2

__all__ = ["DEFAULT_FPS", "Frame", "FrameSource", "grab_frame", "read_rate"]

Frame = NDArray[np.uint8]
"""[height, width, 3], blue first."""

DEFAULT_FPS = 30.0
"""The rate of a source that names none, such as a folder."""


def _hold_nothing() -> None:
    """Sources that hold nothing between frames have nothing to give back."""


@dataclass
class FrameSource(Iterator[Frame]):
    """Frames in order, with what is known about them; close it, or use it in a `with`."""

    name: str
    frames: Generator[Frame, None, None]
    fps: float = DEFAULT_FPS
    frame_count: int | None = None
    """None when unknown; an estimate for some video formats."""
    release: Callable[[], object] = _hold_nothing
    live: bool = False
    """A camera goes on whether its frames are read or not; a file waits."""
    clock: Callable[[], float] | None = None
    """The last frame's own time in seconds, where the source has one; 0 where it does not."""
    interrupt: Callable[[], object] = _hold_nothing
    """From another thread: end a read that waits, where the source can."""
    given: int = 0
    """How many frames were read."""

    @property
    def media_time(self) -> float:
        """When the last frame was, in seconds from the source's first."""
        own = self.clock() if self.clock else 0.0
        return own or max(self.given - 1, 0) / self.fps

    def __next__(self) -> Frame:
        frame = next(self.frames)
        self.given += 1
        return frame

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file or camera back; closing twice is fine."""
        self.frames.close()
        self.release()


def grab_frame(capture: cv2.VideoCapture) -> Frame | None:
    """The next frame, or None where there is no more."""
    shown, frame = capture.read()
    return frame.astype(np.uint8, copy=False) if shown else None


def read_rate(capture: cv2.VideoCapture) -> float:
    """The rate the source names, unless it is none that a video can have."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 1 <= fps <= 1000 else DEFAULT_FPS
