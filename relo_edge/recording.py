"""Boxes and annotated frames out, kept whole whatever ends the run."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from relo_edge.errors import InputError, SourceError
from relo_edge.files import write_text
from relo_edge.opencv import cv2
from relo_edge.quiet import hush_libraries

if TYPE_CHECKING:
    from relo_edge.tracker import Track
    from relo_edge.video import Frame

__all__ = [
    "BOX_COLUMNS",
    "BOX_SUFFIXES",
    "VIDEO_SUFFIXES",
    "BoxRecorder",
    "VideoRecorder",
    "check_output",
    "check_outputs",
    "record_boxes",
]

BOX_COLUMNS = ("frame", "target", "x", "y", "w", "h", "score", "confidence", "lost")

BOX_SUFFIXES = (".csv", ".json")
VIDEO_SUFFIXES = (".mp4",)

CODECS = ("mp4v", "avc1")
"""Every FFmpeg encodes the first; the second is for an OpenCV built on something else."""


def check_output(path: Path, suffixes: tuple[str, ...]) -> Path:
    """Say before the work starts that its result could not be written."""
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"output {str(path)!r}",
            found=path.suffix or "no extension",
            expected=" or ".join(suffixes),
        )
    folder = path.parent
    if not folder.is_dir():
        found = "a file" if folder.exists() else "no such folder"
        raise InputError(f"output folder {str(folder)!r}", found=found, fix=f"mkdir -p {folder}")
    if path.is_dir():
        raise InputError(f"output {str(path)!r}", found="a folder", expected="a file's name")
    if not os.access(path if path.exists() else folder, os.W_OK) or not os.access(folder, os.W_OK):
        raise InputError(
            f"output {str(path)!r}", found="no right to write", fix="choose another folder"
        )
    return path


def check_outputs(source: str, video: Path | None, boxes: Path | None) -> None:
    """Check all that a run would write, and that none of it is what the run reads."""
    for path, suffixes in ((video, VIDEO_SUFFIXES), (boxes, BOX_SUFFIXES)):
        if path is None:
            continue
        check_output(path, suffixes)
        if path.exists() and Path(source).exists() and path.samefile(source):
            raise InputError(
                f"output {str(path)!r}", found="the source itself", fix="choose another name"
            )


class VideoRecorder:
    """An mp4 that appears under its own name only when it is whole."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = check_output(path, VIDEO_SUFFIXES)
        # A sibling, so that moving is atomic; the same extension, because encoders go by it.
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        self._fps = fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0

    def write(self, frame: Frame) -> None:
        """Append a frame; the first one sets the size."""
        size = (frame.shape[1], frame.shape[0])
        if self._writer is None:
            self._size, self._writer = size, _open_encoder(self._partial, self._fps, size)
        if size != self._size:
            # OpenCV would drop the frame without a word.
            raise SourceError(
                f"video {self.path.name}: frame size changed",
                found="{}x{}".format(*size),
                expected="{}x{}".format(*self._size),
            )
        self._writer.write(frame)
        self._written += 1

    def close(self) -> None:
        """Publish what was recorded, once it reads back whole; closing twice is fine."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        readable = _count_frames(self._partial)
        if readable != self._written:
            self._partial.unlink(missing_ok=True)
            raise SourceError(
                f"video {str(self.path)!r} was not written",
                found=f"{readable} readable frames",
                expected=self._written,
                fix="is the disk full?",
            )
        with _explain_failure(self.path):
            self._partial.replace(self.path)


class BoxRecorder(Protocol):
    """Where boxes go: one row for each target in each frame."""

    path: Path

    def write(self, frame: int, target: int, track: Track) -> None:
        """Add a row."""

    def close(self) -> None:
        """Leave a whole file; closing twice is fine."""


def record_boxes(path: Path) -> BoxRecorder:
    """The recorder for the file's extension."""
    check_output(path, BOX_SUFFIXES)
    return _JsonBoxes(path) if path.suffix.lower() == ".json" else _CsvBoxes(path)


class _CsvBoxes:
    """Rows on disk as they come, so that even a killed run leaves every frame it finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _explain_failure(path):
            self._file = path.open("w", buffering=1, newline="", encoding="utf-8")
            # The csv module writes a float's repr, which loses nothing.
            self._rows = csv.writer(self._file, lineterminator="\n")
            self._rows.writerow(BOX_COLUMNS)

    def write(self, frame: int, target: int, track: Track) -> None:
        with _explain_failure(self.path):
            self._rows.writerow([*_list_values(frame, target, track), int(track.lost)])

    def close(self) -> None:
        with _explain_failure(self.path):
            self._file.close()


class _JsonBoxes:
    """A list of rows with the CSV's names; JSON has to end, so it is written at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, Any]] = []

    def write(self, frame: int, target: int, track: Track) -> None:
        values = [*_list_values(frame, target, track), track.lost]
        self._rows.append(dict(zip(BOX_COLUMNS, values, strict=True)))

    def close(self) -> None:
        lines = ",\n".join(json.dumps(row) for row in self._rows)
        with _explain_failure(self.path):
            write_text(self.path, f"[\n{lines}\n]\n")


def _list_values(frame: int, target: int, track: Track) -> list[int | float]:
    numbers = (*track.box, track.score, track.confidence)
    return [frame, target, *(float(number) for number in numbers)]


@contextlib.contextmanager
def _explain_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"output {str(path)!r} cannot be written", found=reason) from error


def _open_encoder(path: Path, fps: float, size: tuple[int, int]) -> cv2.VideoWriter:
    for codec in CODECS:
        with hush_libraries():
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
        if writer.isOpened():
            return writer
    raise SourceError(
        f"no encoder for a video of {size[0]}x{size[1]} at {fps:g} FPS",
        found=f"an OpenCV without {' and '.join(CODECS)}, or a size they refuse",
        fix="`pip install opencv-python`, or track without --save",
    )


def _count_frames(path: Path) -> int:
    with hush_libraries():
        capture = cv2.VideoCapture(str(path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    return count
