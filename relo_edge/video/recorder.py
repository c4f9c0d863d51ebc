"""Frames into a video file, kept whatever ends the run."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.errors import NoSpaceError, SourceError
from relo_edge.host.files import check_output, explain_failure
from relo_edge.host.locks import lock_output
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.video.encoding import VideoEncoder, copy_to_mp4, open_encoder
from relo_edge.video.recovery import FINISHED, keep_partial, name_partial, recover_folder

if TYPE_CHECKING:
    from relo_edge.video.opening import Frame

__all__ = ["MIN_FREE_BYTES", "VIDEO_SUFFIXES", "VideoRecorder"]


VIDEO_SUFFIXES = (".mp4", ".webm")

MIN_FREE_BYTES = 64 << 20
"""Disk space that a recording leaves free: enough to finish it, and for boxes and logs."""


class VideoRecorder:
    """A video that appears under its own name only when it is whole.

    Until then it is a hidden sibling that can be played at each moment; what a killed process
    left of one is recovered by the next recorder in the same folder.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = check_output(path, VIDEO_SUFFIXES)
        self._fps = fps
        self._encoder: VideoEncoder | None = None
        self._first = 0
        self._last: Frame | None = None
        self._written = 0
        recover_folder(path.parent)
        self._lock = contextlib.ExitStack()
        # By the name that recovery would give it: a partial file's suffix is in lower case.
        lower = path.with_suffix(path.suffix.lower())
        self._lock.enter_context(lock_output(lower.resolve()))

    def write(self, frame: Frame, number: int | None = None) -> None:
        """Append a frame; the first one sets the size.

        Numbers that a camera's dropped frames leave out are filled with the frame before, so
        that the video keeps the time. The frame must not be written to afterwards.

        Raises:
            NoSpaceError: the disk is nearly full; what was written is to be closed now.
            SourceError: the frame's size differs, or the encoder failed.
        """
        size = (frame.shape[1], frame.shape[0])
        if self._encoder is None or self._last is None:
            self._check_space(0)
            self._encoder = open_encoder(
                name_partial(self.path), self.path.suffix.lower(), self._fps, size
            )
            self._first, self._last = number or 0, frame
        elif frame.shape != self._last.shape:
            # OpenCV would drop the frame without a word.
            raise SourceError(
                f"video {self.path.name}: frame size changed",
                found="{}x{}".format(*size),
                expected="{1}x{0}".format(*self._last.shape),
            )
        while number is not None and self._first + self._written < number:
            self._append(self._encoder, self._last)
        self._append(self._encoder, frame)
        self._last = frame

    def close(self) -> None:
        """Publish the video once it reads back whole; closing twice is fine.

        Raises:
            SourceError: it does not; what can be read of it is kept under another name.
        """
        if self._encoder is not None:
            encoder, self._encoder = self._encoder, None
            with self._lock:
                self._publish(encoder)
        self._lock.close()

    def _append(self, encoder: VideoEncoder, frame: Frame) -> None:
        written = encoder.path.stat().st_size if encoder.must_copy else 0
        self._check_space(written)
        encoder.write(frame)
        self._written += 1

    def _check_space(self, reserved: int) -> None:
        free = shutil.disk_usage(self.path.parent).free
        if free < MIN_FREE_BYTES + reserved:
            raise NoSpaceError(
                f"video {str(self.path)!r} ends after {self._written} frames",
                found=f"{free >> 20} MB of free disk space",
                expected=f"at least {(MIN_FREE_BYTES + reserved) >> 20} MB",
            )

    def _publish(self, encoder: VideoEncoder) -> None:
        try:
            encoder.release()
            finished = self._finish(encoder)
        except SourceError as error:
            raise self._explain_loss(str(error), encoder.path) from error
        frames = _count_frames(finished)
        if frames != self._written:
            if finished != encoder.path:
                finished.unlink()
            what = f"video {str(self.path)!r} is incomplete"
            found = f"{frames} readable frames of {self._written}"
            raise self._explain_loss(str(SourceError(what, found=found)), encoder.path)
        with explain_failure(self.path):
            finished.replace(self.path)
            encoder.path.unlink(missing_ok=True)

    def _finish(self, encoder: VideoEncoder) -> Path:
        """The video in its final container; a fragmented mp4 may stay one if space is short."""
        size = encoder.path.stat().st_size if encoder.path.exists() else 0
        roomy = shutil.disk_usage(self.path.parent).free > size + MIN_FREE_BYTES // 2
        if self.path.suffix.lower() != ".mp4" or not (encoder.must_copy or roomy):
            return encoder.path
        finished = name_partial(self.path).with_suffix(FINISHED)
        try:
            copy_to_mp4(encoder.path, finished)
        except SourceError:
            finished.unlink(missing_ok=True)
            if encoder.must_copy:
                raise
            return encoder.path
        return finished

    def _explain_loss(self, problem: str, partial: Path) -> SourceError:
        kept = keep_partial(partial)
        return SourceError(f"{problem}; what can be played is in {kept}" if kept else problem)


def _count_frames(path: Path) -> int:
    with silence_native_stderr():
        capture = cv2.VideoCapture(str(path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    return count
