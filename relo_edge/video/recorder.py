"""Boxes and annotated frames out, kept whole whatever ends the run."""

from __future__ import annotations

import contextlib
import csv
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from relo_edge.errors import InputError, SourceError
from relo_edge.host.files import write_text
from relo_edge.host.native_stderr import hush_libraries
from relo_edge.host.opencv import cv2
from relo_edge.tracker import Track
from relo_edge.video.encoding import Encoder, open_encoder

if TYPE_CHECKING:
    from relo_edge.video.opening import Frame

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

MOT = ".mot.txt"

BOX_SUFFIXES = (".csv", ".json", ".jsonl", ".txt", MOT)
"""Text is OTB's, one target's boxes line by line; with .mot before it, MOTChallenge's."""

LONGEST_NAME = 200
"""Bytes: what disks take, less what a temporary sibling's name adds."""

VIDEO_SUFFIXES = (".mp4", ".webm")


def check_output(path: Path, suffixes: tuple[str, ...]) -> Path:
    """Say before the work starts that its result could not be written."""
    if path.suffix.lower() not in suffixes:
        raise InputError(
            f"output {str(path)!r}",
            found=path.suffix or "no extension",
            expected=" or ".join(suffixes),
        )
    folder = path.parent
    if "\0" in str(path) or len(os.fsencode(path.name)) > LONGEST_NAME:
        raise InputError("output", found=ascii(str(path)), expected="a name that a disk can hold")
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


def check_outputs(
    source: str, video: Path | None, boxes: Path | None, others: Sequence[Path] = ()
) -> None:
    """Check all that a run would write, and that none of it is what the run reads."""
    read = {_identify(Path(source)), *map(_identify, others)} - {None}
    for path, suffixes in ((video, VIDEO_SUFFIXES), (boxes, BOX_SUFFIXES)):
        if path is None:
            continue
        truth = path.name.startswith("groundtruth")
        if _identify(check_output(path, suffixes)) in read or (truth and path.exists()):
            raise InputError(
                f"output {str(path)!r}",
                found="ground truth" if truth else "the source itself, or another file it needs",
                fix="choose another name",
            )


def _identify(path: Path) -> tuple[int, int] | None:
    """The same for two names of one file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


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
        with _explain_failure(self.path):
            self._partial.replace(self.path)


class BoxRecorder(Protocol):
    """Where boxes go: one row for each target in each frame."""

    path: Path

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        """Add a row; the time, in seconds, is kept where the format has a place for it."""

    def close(self) -> None:
        """Leave a whole file; closing twice is fine."""


def record_boxes(path: Path) -> BoxRecorder:
    """The recorder for the file's extension."""
    check_output(path, BOX_SUFFIXES)
    if path.name.lower().endswith(MOT):
        return _MotBoxes(path)
    recorders: dict[str, Callable[[Path], BoxRecorder]] = {
        ".csv": _CsvBoxes,
        ".json": _JsonBoxes,
        ".jsonl": _JsonLines,
        ".txt": _OtbBoxes,
    }
    return recorders[path.suffix.lower()](path)


class _Row(NamedTuple):
    frame: int
    target: int | str
    track: Track
    time: float | None

    def list_values(self) -> list[int | float | str]:
        """All columns but the last, as plain numbers."""
        numbers = (*self.track.box, self.track.score, self.track.confidence)
        return [self.frame, self.target, *(float(number) for number in numbers)]

    def to_json(self) -> str:
        """The CSV's names, and the time."""
        values = [*self.list_values(), self.track.lost]
        named = dict(zip(BOX_COLUMNS, values, strict=True))
        return json.dumps(named if self.time is None else {**named, "time": self.time})


class _Lines(ABC):
    """Rows on disk as they come, so that even a killed run leaves every frame it finished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _explain_failure(path):
            self._file = path.open("w", buffering=1, newline="", encoding="utf-8")
            self._begin()

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        with _explain_failure(self.path):
            self._put(_Row(frame, target, track, time))

    def close(self) -> None:
        with _explain_failure(self.path):
            self._file.close()

    def _begin(self) -> None:  # noqa: B027  most formats have nothing there
        """What stands before the rows."""

    @abstractmethod
    def _put(self, row: _Row) -> None:
        """One row."""


class _CsvBoxes(_Lines):
    def _begin(self) -> None:
        # The csv module writes a float's repr, which loses nothing.
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(BOX_COLUMNS)

    def _put(self, row: _Row) -> None:
        self._rows.writerow([*row.list_values(), int(row.track.lost)])


class _JsonLines(_Lines):
    def _put(self, row: _Row) -> None:
        self._file.write(f"{row.to_json()}\n")


class _OtbBoxes(_Lines):
    """x,y,w,h counted from 0, a line for every frame from the start frame on; one target."""

    _start: tuple[int | str, int] | None = None
    _written = 0

    def _put(self, row: _Row) -> None:
        target, first = self._start = self._start or (row.target, row.frame)
        if row.target != target:
            raise InputError(
                f"output {str(self.path)!r}",
                found="a second target",
                expected="one, as OTB has it",
                fix=f"name it {self.path.stem}{MOT} or {self.path.stem}.csv",
            )
        line = ",".join(repr(float(number)) for number in row.track.box)
        # Frames that a camera dropped get the box of the next.
        missing = row.frame - first - self._written
        self._file.write(f"{line}\n" * (missing + 1))
        self._written += missing + 1


class _MotBoxes(_Lines):
    """MOTChallenge's ten columns; frames, targets and pixels count from 1 there."""

    def _begin(self) -> None:
        self._numbers: dict[int | str, int] = {}

    def _put(self, row: _Row) -> None:
        number = self._numbers.setdefault(row.target, len(self._numbers) + 1)
        x, y, width, height = map(float, row.track.box)
        numbers = (x + 1, y + 1, width, height, float(row.track.confidence))
        columns = ",".join(map(repr, numbers))
        self._file.write(f"{row.frame + 1},{number},{columns},-1,-1,-1\n")


class _JsonBoxes:
    """A list of rows; JSON has to end, so it is written at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[str] = []

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        self._rows.append(_Row(frame, target, track, time).to_json())

    def close(self) -> None:
        lines = ",\n".join(self._rows)
        with _explain_failure(self.path):
            write_text(self.path, f"[\n{lines}\n]\n")


@contextlib.contextmanager
def _explain_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SourceError(f"output {str(path)!r} cannot be written", found=reason) from error


def _count_frames(path: Path) -> int:
    with hush_libraries():
        capture = cv2.VideoCapture(str(path))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
        capture.release()
    return count
