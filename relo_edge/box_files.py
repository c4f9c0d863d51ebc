"""Boxes as files: written row by row and whole whatever ends the run, and read again."""

from __future__ import annotations

import csv
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, SourceError
from relo_edge.host.files import check_output, explain_failure, write_text
from relo_edge.tracker import Track

__all__ = ["BOX_COLUMNS", "BOX_SUFFIXES", "BoxRecorder", "read_boxes", "record_boxes"]


BOX_COLUMNS = ("frame", "target", "x", "y", "w", "h", "score", "confidence", "lost")


MOT = ".mot.txt"


BOX_SUFFIXES = (".csv", ".json", ".jsonl", ".txt", MOT)
"""Text is OTB's, one target's boxes line by line; with .mot before it, MOTChallenge's."""


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
        with explain_failure(path):
            self._file = path.open("w", buffering=1, newline="", encoding="utf-8")
            self._begin()

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        with explain_failure(self.path):
            self._put(_Row(frame, target, track, time))

    def close(self) -> None:
        with explain_failure(self.path):
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
        with explain_failure(self.path):
            write_text(self.path, f"[\n{lines}\n]\n")


SEPARATOR = re.compile(r"\s*,\s*|\s+")


COLUMNS = "four numbers x,y,w,h"


def read_boxes(
    truth: Path, choose: Callable[[list[str]], list[str]] = lambda words: words
) -> NDArray[np.float64]:
    """The boxes of a text file, one in a line; `choose` finds the four words in a line's."""
    try:
        # Files from Windows may open with a byte order mark.
        lines = truth.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise SourceError(f"{truth} cannot be read", found=error, expected="text") from None
    boxes = [_parse_line(truth, number, line, choose) for number, line in enumerate(lines, 1)]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _parse_line(
    truth: Path, number: int, line: str, choose: Callable[[list[str]], list[str]]
) -> list[float]:
    try:
        values = [float(word) for word in choose(SEPARATOR.split(line.strip()))]
    except ValueError:
        found = repr(line if len(line) <= 40 else f"{line[:40]}…")
        raise SourceError(f"{truth} line {number}", found=found, expected=COLUMNS) from None
    if len(values) != 4:
        found = f"{len(values)} numbers"
        raise SourceError(f"{truth} line {number}", found=found, expected=COLUMNS)
    return values
