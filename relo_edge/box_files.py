"""Box files: written row by row, complete whatever ends the run, and read again."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, SourceError
from relo_edge.host.files import check_output, explain_failure, write_text
from relo_edge.host.locks import lock_output
from relo_edge.tracker import Track

__all__ = ["BOX_COLUMNS", "BOX_SUFFIXES", "MOT", "STDOUT", "BoxRecorder", "read_boxes"]
__all__ += ["record_boxes", "unquote_name"]


BOX_COLUMNS = ("frame", "target", "x", "y", "w", "h", "score", "confidence", "lost")


MOT = ".mot.txt"


STDOUT = Path("-")
"""In place of a file: JSON lines on stdout, each written at once for the program that reads it."""


BOX_SUFFIXES = (".csv", ".json", ".jsonl", ".txt", MOT)
"""A .txt is OTB's, one target's boxes line by line; a .mot.txt is MOTChallenge's."""


FORMULA = re.compile(r"'*[=+\-@]")
"""What spreadsheets take for a formula, quoted or not: an apostrophe before it makes it text."""


class BoxRecorder(Protocol):
    """Writes a row for each target in each frame; a second writer to its file is refused."""

    path: Path

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        """Add a row; the time, in seconds, is kept where the format has a field for it."""

    def close(self) -> None:
        """Finish the file; closing twice is fine."""


def record_boxes(path: Path, source: str | None = None) -> BoxRecorder:
    """The recorder for the file's extension, or for stdout, whose lines name a `source` given."""
    if path == STDOUT:
        return _StdoutLines(source)
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
        """All columns but the last, as plain values."""
        numbers = (*self.track.box, self.track.score, self.track.confidence)
        return [self.frame, self.target, *(float(number) for number in numbers)]

    def to_json(self) -> str:
        """An object with the CSV's column names, and the time."""
        values = [*self.list_values(), self.track.lost]
        # JSON has no NaN, which stands for a score or confidence that the tracker does not tell.
        known = [None if value != value else value for value in values]
        named = dict(zip(BOX_COLUMNS, known, strict=True))
        return json.dumps(named if self.time is None else {**named, "time": self.time})


class _Lines(ABC):
    """Rows reach the disk as they come, so that a killed run leaves every finished frame."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock_output(path.resolve()))
            with explain_failure(path):
                self._file = path.open("w", buffering=1, newline="", encoding="utf-8")
                self._begin()
            self._lock = stack.pop_all()

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        with explain_failure(self.path):
            self._put(_Row(frame, target, track, time))

    def close(self) -> None:
        with explain_failure(self.path), self._lock:
            self._file.close()

    def _begin(self) -> None:  # noqa: B027  most formats have no header
        """Write the header."""

    @abstractmethod
    def _put(self, row: _Row) -> None:
        """Write a row."""


class _CsvBoxes(_Lines):
    def _begin(self) -> None:
        # The csv module writes a float's repr, which loses nothing.
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(BOX_COLUMNS)

    def _put(self, row: _Row) -> None:
        frame, target, *numbers = row.list_values()
        name = f"'{target}" if FORMULA.match(str(target)) else target
        self._rows.writerow([frame, name, *numbers, int(row.track.lost)])


class _JsonLines(_Lines):
    def _put(self, row: _Row) -> None:
        self._file.write(f"{row.to_json()}\n")


class _StdoutLines:
    """The same on stdout. A reader that has gone ends the run as it ends other commands."""

    path = STDOUT

    def __init__(self, source: str | None) -> None:
        self._source = source

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        line = _Row(frame, target, track, time).to_json()
        if self._source is not None:
            line = f'{{"source": {json.dumps(self._source)}, {line[1:]}'
        print(f"{line}\n", end="", flush=True)  # at once: other threads write too

    def close(self) -> None:
        """Stdout is not ours to close."""


class _OtbBoxes(_Lines):
    """x,y,w,h counted from 0, a line for each frame from the start frame on; one target."""

    _start: tuple[int | str, int] | None = None
    _written = 0

    def _put(self, row: _Row) -> None:
        target, first = self._start = self._start or (row.target, row.frame)
        if row.target != target:
            raise InputError(
                f"output {str(self.path)!r}",
                found="a second target",
                expected="one, which is all that the OTB format has room for",
                fix=f"name it {self.path.stem}{MOT} or {self.path.stem}.csv",
            )
        line = ",".join(repr(float(number)) for number in row.track.box)
        # Frames that a camera dropped get the next one's box.
        missing = row.frame - first - self._written
        self._file.write(f"{line}\n" * (missing + 1))
        self._written += missing + 1


class _MotBoxes(_Lines):
    """MOTChallenge's ten columns; frames, targets and pixels are counted from 1 there."""

    def _begin(self) -> None:
        self._numbers: dict[int | str, int] = {}

    def _put(self, row: _Row) -> None:
        number = self._numbers.setdefault(row.target, len(self._numbers) + 1)
        x, y, width, height = map(float, row.track.box)
        confidence = float(row.track.confidence)
        # A row that counts has 1 where no confidence is told; 0 would have it ignored.
        told = confidence if math.isfinite(confidence) else 1.0
        numbers = (x + 1, y + 1, width, height, told)
        columns = ",".join(map(repr, numbers))
        self._file.write(f"{row.frame + 1},{number},{columns},-1,-1,-1\n")


class _JsonBoxes:
    """A list of rows; JSON needs its end, so the file is written when it is closed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(lock_output(path.resolve()))
        self._rows: list[str] = []

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:
        self._rows.append(_Row(frame, target, track, time).to_json())

    def close(self) -> None:
        lines = ",\n".join(self._rows)
        with explain_failure(self.path), self._lock:
            write_text(self.path, f"[\n{lines}\n]\n")


def unquote_name(text: str) -> str:
    """A target's name as it was before a CSV file quoted it."""
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


SEPARATOR = re.compile(r"\s*,\s*|\s+")


COLUMNS = "four numbers x,y,w,h"


def read_boxes(
    truth: Path, choose: Callable[[list[str]], list[str]] = lambda fields: fields
) -> NDArray[np.float64]:
    """The boxes of a text file, one per line; `choose` picks the four fields of a line."""
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
