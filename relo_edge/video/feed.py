"""Frames with numbers that mean the same in boxes and video, whatever a camera dropped."""

from __future__ import annotations

import threading
from typing import NamedTuple

from relo_edge.errors import InputError, SourceError
from relo_edge.video.live import LiveFrame, LiveReader
from relo_edge.video.sources.frames import Frame

__all__ = ["MAX_GAP_SECONDS", "Feed", "FeedFrame", "FrameNumbering"]

MAX_GAP_SECONDS = 2.0
"""A longer gap is cut to this: filling a break of hours would fill a disk."""

STOP_POLL_SECONDS = 0.2
"""How long Ctrl-C may wait for a silent camera."""


class FrameNumbering:
    """Frame numbers from a camera's times: dropped frames leave gaps, long breaks are cut."""

    def __init__(self, fps: float) -> None:
        self._fps = fps
        self._max_gap = max(1, round(MAX_GAP_SECONDS * fps))
        self._origin: float | None = None
        self._number = 0

    def next_number(self, time: float) -> int:
        """The number of the frame at this time, in seconds; the first is 0, each is a new one.

        Time that leaps forwards or backwards, as after a break or a restart, is counted on from.
        """
        if self._origin is None:
            self._origin = time
            return 0
        step = round((time - self._origin) * self._fps) - self._number
        if abs(step) > self._max_gap:
            self._number += self._max_gap if step > 0 else 1
            self._origin = time - self._number / self._fps
        else:
            self._number += max(1, step)
        return self._number


class FeedFrame(NamedTuple):
    """A frame to track."""

    number: int
    """A file's own count from 0; a camera's by its time (see `FrameNumbering`)."""
    image: Frame
    time: float
    """Seconds: a file's timestamp; for a camera, since the first frame read here."""
    captured: float = 0.0
    """`time.monotonic()` when the frame arrived."""


class Feed:
    """A reader's frames from number `start` on, with a look at the first before it is read."""

    def __init__(self, reader: LiveReader, start: int = 0) -> None:
        if start < 0:
            raise InputError("--start", found=start, expected="a frame number, 0 or more")
        self.reader, self.start = reader, start
        self._began = 0.0
        """When the first frame was read, by a camera's own clock."""
        self._numbering: FrameNumbering | None = None
        self._dropped_before = 0
        self._peeked: FeedFrame | None = None

    @property
    def dropped(self) -> int:
        """Frames that came too fast, since the first was read."""
        return self.reader.dropped - self._dropped_before

    def peek(self) -> FeedFrame:
        """The next frame, which `read` will return again."""
        if self._peeked is None:
            self._peeked = self.read()
        if self._peeked is None:
            raise SourceError(
                f"{self.reader.name} ends before the first frame to track",
                found=f"{self.reader.captured} frames",
                expected=f"more than {self.start}",
            )
        return self._peeked

    def read(self, stop: threading.Event | None = None) -> FeedFrame | None:
        """The next frame; None at the end, or once `stop` is set."""
        if self._peeked is not None:
            frame, self._peeked = self._peeked, None
            return frame
        while not (stop and stop.is_set()):
            read = self.reader.read(STOP_POLL_SECONDS)
            if read is not None:
                frame = self._number(read)
                if frame.number >= self.start:
                    return frame
            elif self.reader.over:
                break
        return None

    def _number(self, read: LiveFrame) -> FeedFrame:
        if not self.reader.live:
            return FeedFrame(read.index, read.image, read.media, read.captured)
        if self._numbering is None:
            # Frames that came while the runtime was being opened are of no interest.
            self._began, self._dropped_before = read.media, self.reader.dropped
            self._numbering = FrameNumbering(self.reader.fps)
        number = self._numbering.next_number(read.media)
        return FeedFrame(number, read.image, read.media - self._began, read.captured)
