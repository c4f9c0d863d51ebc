"""Which targets to follow: boxes from the command line, from a file, or drawn with the mouse."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from relo_edge.box_files import BOX_COLUMNS, read_boxes
from relo_edge.errors import InputError, SourceError
from relo_edge.geometry import Box, read_box
from relo_edge.video.feed import FeedFrame
from relo_edge.video.window import select_boxes

__all__ = [
    "GIVEN_SCORE",
    "TargetStart",
    "check_starts",
    "gather_starts",
    "parse_start",
    "select_starts",
]

LONGEST_NAME = 40
LARGEST_FILE = 1 << 28

JSON_SHAPES = '{"name": [x,y,w,h]} or {"name": {"box": [x,y,w,h], "frame": 10, "until": 90}}'


@dataclass(frozen=True)
class TargetStart:
    """A target, and when it comes and goes."""

    box: Box
    name: int | str = 0
    frame: int = 0
    """The number of the frame that the box is for."""
    until: int | None = None
    """The number of the first frame that it is no longer followed in."""


def parse_start(text: str, number: int = 0) -> TargetStart:
    """The target in `--init x,y,w,h` or `--init name=x,y,w,h`; without a name its number is it."""
    name, equals, numbers = text.rpartition("=")
    try:
        x, y, width, height = (float(number) for number in numbers.split(","))
    except ValueError:
        raise InputError(
            "--init",
            found=repr(text),
            expected="four numbers x,y,w,h such as 120,80,64,48, or car=120,80,64,48",
        ) from None
    return TargetStart((x, y, width, height), _check_name(name) if equals else number)


def gather_starts(texts: Sequence[str], path: Path | None, first: int) -> list[TargetStart]:
    """The targets of the command line and of a file, for the first frame where none is named."""
    given = [replace(parse_start(text, n), frame=first) for n, text in enumerate(texts)]
    return given + (_read_starts(path, first) if path else [])


def select_starts(frame: FeedFrame, starts: Sequence[TargetStart]) -> list[TargetStart]:
    """The targets that a user draws on the frame, beside those there are."""
    boxes = select_boxes(frame.image, "relo-edge: draw a box, Enter, … then Esc")
    numbers = range(len(starts), len(starts) + len(boxes))
    drawn = [TargetStart(box, n, frame.number) for n, box in zip(numbers, boxes, strict=True)]
    return [*starts, *drawn]


def _read_starts(path: Path, frame: int = 0) -> list[TargetStart]:
    """The targets in a JSON file, in boxes as we write them, or in a ground-truth file.

    Of boxes and ground truth, those of the frame asked for; a ground truth of one row is for it.
    """
    if not path.is_file() or path.stat().st_size > LARGEST_FILE:
        missing = "a folder" if path.is_dir() else "no such file"
        found = "a file of that size" if path.is_file() else missing
        raise InputError(f"--init-from {path}", found=found, expected="boxes in JSON, CSV or text")
    if path.suffix.lower() == ".json":
        return _read_json(path, frame)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if file.readline().strip() == ",".join(BOX_COLUMNS):
            return _read_rows(path, csv.DictReader(file, BOX_COLUMNS), frame)
    return [TargetStart(_pick_row(path, frame), frame=frame)]


def check_starts(starts: Sequence[TargetStart], first: int) -> list[TargetStart]:
    """Targets with different names that all begin at the first frame or later, in order."""
    if not starts:
        raise InputError(
            "targets",
            found="none",
            expected="a box to start from",
            fix="give --init X,Y,W,H, --init-from FILE or --select",
        )
    names = [str(start.name) for start in starts]
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InputError("targets", found=f"{double!r} twice", expected="a name for each")
    for start in starts:
        if start.frame < first or (start.until is not None and start.until <= start.frame):
            raise InputError(
                f"target {start.name!r}",
                found=f"frames {start.frame} to {start.until}",
                expected=f"a frame from {first} on and a later end",
            )
    return sorted(starts, key=lambda start: start.frame)


def _check_name(name: object) -> str:
    sound = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME
    if not sound or any(unicodedata.category(letter)[0] == "C" for letter in str(name)):
        expected = f"1 to {LONGEST_NAME} characters that can be shown"
        raise InputError("target's name", found=ascii(name), expected=expected)
    return str(name)


def _read_json(path: Path, frame: int) -> list[TargetStart]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read", found=error, expected="JSON") from None
    if isinstance(content, list):
        return [_read_entry(path, number, entry, frame) for number, entry in enumerate(content)]
    if isinstance(content, dict):
        return [
            _read_entry(path, _check_name(name), entry, frame) for name, entry in content.items()
        ]
    raise SourceError(f"{path}", found=type(content).__name__, expected=JSON_SHAPES)


def _read_entry(path: Path, name: int | str, entry: Any, frame: int) -> TargetStart:
    fields = entry if isinstance(entry, dict) else {"box": entry}
    box, begin, until = fields.get("box"), fields.get("frame", frame), fields.get("until")
    numbers = isinstance(box, list) and len(box) == 4 and all(_is_number(item) for item in box)
    moments = _is_whole(begin) and (until is None or _is_whole(until))
    if not numbers or not moments or not set(fields) <= {"box", "frame", "until"}:
        found = json.dumps(entry)
        found = found if len(found) <= 60 else f"{found[:60]}…"
        raise SourceError(f"{path}: target {name!r}", found=found, expected=JSON_SHAPES)
    return TargetStart(read_box(np.array(box, np.float64)), name, begin, until)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


def _read_rows(path: Path, rows: csv.DictReader[str], frame: int) -> list[TargetStart]:
    starts = []
    try:
        for row in rows:
            if int(row["frame"]) == frame:
                box = ",".join(row[key] for key in "xywh")
                named = row["target"] if not row["target"].isdecimal() else int(row["target"])
                starts.append(replace(parse_start(box), name=named, frame=frame))
    except (ValueError, TypeError, csv.Error) as error:
        raise SourceError(
            f"{path}",
            found=f"{error} at line {rows.line_num + 1}",
            expected="boxes as track writes",
        ) from None
    if not starts:
        raise InputError(f"--init-from {path}", found=f"no box of frame {frame}")
    return starts


def _pick_row(path: Path, frame: int) -> Box:
    boxes = read_boxes(path)
    row = 0 if len(boxes) == 1 else frame
    if row >= len(boxes):
        raise InputError(
            f"--init-from {path}", found=f"{len(boxes)} rows", expected=f"one for frame {frame}"
        )
    return read_box(boxes[row])


GIVEN_SCORE = 1.0
"""Score and confidence of a target's start frame, whose box is given and not tracked."""
