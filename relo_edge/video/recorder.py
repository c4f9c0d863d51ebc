"""Boxes and annotated frames out, kept whole whatever ends the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.errors import SourceError
from relo_edge.host.files import check_output, explain_failure
from relo_edge.host.native_stderr import hush_libraries
from relo_edge.host.opencv import cv2
from relo_edge.video.encoding import Encoder, open_encoder

if TYPE_CHECKING:
    from relo_edge.video.opening import Frame

__all__ = ["VIDEO_SUFFIXES", "VideoRecorder"]


VIDEO_SUFFIXES = (".mp4", ".webm")


class VideoRecorder:
    """A video that appears under its own name only when it is whole."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = check_output(path, VIDEO_SUFFIXES)
        # A sibling, so that moving is atomic; the same extension, because encoders go by it;
        # absolute, because they take what is before a relative name's colon for a protocol.
        self._partial = path.absolute().with_name(f".{path.stem}.partial{path.suffix}")
        self._fps = fps
        self._writer: Encoder | None = None
        self._first = 0
        self._last: Frame | None = None
        self._written = 0

    def write(self, frame: Frame, number: int | None = None) -> None:
        """Append a frame; the first one sets the size.

        Numbers that a camera's dropped frames leave out are filled with the picture before, so
        that the video keeps the time. The frame must not be written to afterwards.
        """
        size = (frame.shape[1], frame.shape[0])
        if self._writer is None or self._last is None:
            self._writer = open_encoder(self._partial, self._fps, size)
            self._first, self._last = number or 0, frame
        elif frame.shape != self._last.shape:
            # OpenCV would drop the frame without a word.
            raise SourceError(
                f"video {self.path.name}: frame size changed",
                found="{}x{}".format(*size),
                expected="{1}x{0}".format(*self._last.shape),
            )
        while number is not None and self._first + self._written < number:
            self._append(self._last)
        self._append(frame)
        self._last = frame

    def _append(self, frame: Frame) -> None:
        assert self._writer is not None
        self._writer.write(frame)
        self._written += 1

    def close(self) -> None:
        """Publish what was recorded, once it reads back whole; closing twice is fine."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.release()
        except SourceError:
            self._partial.unlink(missing_ok=True)
            raise
        readable = _count_frames(self._partial)
        if readable != self._written:
            self._partial.unlink(missing_ok=True)
            raise SourceError(
                f"video {str(self.path)!r} was not written",
                found=f"{readable} readable frames",
                expected=self._written,
                fix="is the disk full?",
            )
        with explain_failure(self.path):
            self._partial.replace(self.path)


def _count_frames(path: Path) -> int:
    with hush_libraries():
        capture = cv2.VideoCapture(str(path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    return count
