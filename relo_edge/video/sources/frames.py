"""The interface of every source: frames in order, and their properties."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import SourceError
from relo_edge.host.opencv import cv2
from relo_edge.host.terminal import escape_controls

__all__ = ["DEFAULT_FPS", "Frame", "FrameSource", "LengthCheck", "grab_frame", "read_rate"]

Frame = NDArray[np.uint8]
"""[height, width, 3], blue first."""

DEFAULT_FPS = 30.0
"""The rate of a source that names none, such as a folder."""

MIN_LENGTH_RATIO = 0.95
"""How much of its announced length a video must reach: lengths in headers are estimates."""


def _do_nothing() -> None:
    """For sources that hold nothing between frames."""


@dataclass
class FrameSource(Iterator[Frame]):
    """Frames in order, and their properties; close it, or use it in a `with` block."""

    name: str
    frames: Generator[Frame, None, None]
    fps: float = DEFAULT_FPS
    frame_count: int | None = None
    """None when unknown; an estimate for some video formats."""
    release: Callable[[], object] = _do_nothing
    live: bool = False
    """A camera goes on whether its frames are read or not; a file waits."""
    clock: Callable[[], float] | None = None
    """Returns the last frame's timestamp in seconds, or 0 if it has none."""
    interrupt: Callable[[], object] = _do_nothing
    """Ends a waiting read from another thread, where the source can."""
    given: int = 0
    """How many frames were read."""

    def __post_init__(self) -> None:
        # A folder or a link may be called anything; the name is printed and drawn.
        self.name = " ".join(escape_controls(self.name).split())

    @property
    def media_time(self) -> float:
        """The last frame's time, in seconds from the first."""
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
        """Release the file or camera; closing twice is fine."""
        self.frames.close()
        self.release()


def grab_frame(capture: cv2.VideoCapture) -> Frame | None:
    """The next frame, or None at the end."""
    shown, frame = capture.read()
    return frame.astype(np.uint8, copy=False) if shown else None


def read_rate(capture: cv2.VideoCapture) -> float:
    """The rate that the source announces, if a video can have it."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 1 <= fps <= 1000 else DEFAULT_FPS


@dataclass
class LengthCheck:
    """Whether a video that announces its length reaches it.

    A variable frame rate makes the count a guess and sound can outlast the picture, so a video is
    complete by either measure: frames, or time.
    """

    capture: cv2.VideoCapture
    fps: float
    count: int | None
    read: int = 0
    reached: float = 0.0

    def note_frame(self) -> None:
        """Count the frame that was just read."""
        self.read += 1
        self.reached = self.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 * self.fps + 1

    def check_end(self, name: str, fix: str) -> None:
        """Refuse an end that comes too early."""
        if self.count and max(self.read, self.reached) < MIN_LENGTH_RATIO * self.count:
            raise SourceError(
                f"{name} ends early",
                found=f"{self.read} frames",
                expected=f"about {self.count}",
                fix=fix,
            )
