"""Frames with numbers that mean the same in boxes and video, whatever a camera dropped."""

from __future__ import annotations

import threading
from typing import NamedTuple

from relo_edge.errors import InputError, SourceError
from relo_edge.video.live import LiveFrame, LiveReader
from relo_edge.video.sources.frames import Frame

__all__ = ["Feed", "FeedFrame"]

LONGEST_GAP = 2.0
"""Seconds: a longer silence of a camera is cut to this, or a break of hours would fill a disk."""

PRESS_SECONDS = 0.2
"""How long Ctrl-C may wait for a silent camera."""


class FeedFrame(NamedTuple):
    """A frame to track."""

    number: int
    """A file's own count from 0; for a camera the time in units of its rate, so gaps are drops."""
    image: Frame
    time: float
    """Seconds: a file's own, a camera's since the first frame that was taken from it."""


class Feed:
    """A reader's frames from number `start` on; one may be looked at before it is taken."""

    def __init__(self, reader: LiveReader, start: int = 0) -> None:
        if start < 0:
            raise InputError("--start", found=start, expected="a frame's number, 0 or more")
        self.reader, self.start = reader, start
        self._last = -1
        self._shift = 0
        self._began: LiveFrame | None = None
        self._dropped_before = 0
        self._peeked: FeedFrame | None = None

    @property
    def dropped(self) -> int:
        """Frames that came too fast, since the first was taken."""
        return self.reader.dropped - self._dropped_before

    def peek(self) -> FeedFrame:
        """The next frame, which `take` will give again."""
        if self._peeked is None:
            self._peeked = self.take()
        if self._peeked is None:
            raise SourceError(
                f"{self.reader.name} ends before the first frame to track",
                found=f"{self.reader.captured} frames",
                expected=f"more than {self.start}",
            )
        return self._peeked

    def take(self, stop: threading.Event | None = None) -> FeedFrame | None:
        """The next frame; None at the end, or once `stop` is set."""
        if self._peeked is not None:
            frame, self._peeked = self._peeked, None
            return frame
        while not (stop and stop.is_set()):
            read = self.reader.read(PRESS_SECONDS)
            if read is not None:
                frame = self._number(read)
                if frame.number >= self.start:
                    return frame
            elif self.reader.over:
                break
        return None

    def _number(self, read: LiveFrame) -> FeedFrame:
        if not self.reader.live:
            return FeedFrame(read.index, read.image, read.media)
        if self._began is None:
            # What a camera showed while the runtime was being opened is of no interest.
            self._began, self._dropped_before = read, self.reader.dropped
        time = read.media - self._began.media
        longest = self._last + max(round(LONGEST_GAP * self.reader.fps), 1)
        due = round(time * self.reader.fps) - self._shift
        self._shift += max(due - longest, 0)
        self._last = max(self._last + 1, min(due, longest))
        return FeedFrame(self._last, read.image, time)
