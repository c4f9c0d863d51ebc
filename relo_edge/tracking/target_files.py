"""Files with targets to start from: JSON, box files that `track` wrote, and ground truth."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.box_files import BOX_COLUMNS, MOT, read_boxes, unquote_name
from relo_edge.datasets.sequences import TARGET_TRUTH, TRUTH_FILES, read_origin
from relo_edge.errors import InputError, SourceError
from relo_edge.geometry import Box, read_box

__all__ = ["TargetStart", "check_name", "read_starts"]

MAX_NAME_LENGTH = 40
MAX_FILE_BYTES = 1 << 28

JSON_FORMS = '{"name": [x,y,w,h]} or {"name": {"box": [x,y,w,h], "frame": 10, "until": 90}}'


@dataclass(frozen=True)
class TargetStart:
    """A target's start box, and the frames in which it is tracked."""

    box: Box
    name: int | str = 0
    frame: int = 0
    """The number of the frame that the box is in."""
    until: int | None = None
    """The number of the first frame in which it is no longer tracked."""


def check_name(name: object) -> str:
    """The name, if it is short and has no control characters."""
    sound = isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH
    if not sound or any(unicodedata.category(letter)[0] == "C" for letter in str(name)):
        expected = f"1 to {MAX_NAME_LENGTH} printable characters"
        raise InputError("target's name", found=ascii(name), expected=expected)
    return str(name)


def read_starts(path: Path, frame: int = 0) -> list[TargetStart]:
    """The targets in a file.

    Of a box file and of ground truth, the boxes of the frame asked for; text of one row is for any
    frame. Other text begins where tracking began, so above frame 0 its rows are of unknown frames.
    A `meta.json` beside a ground truth says what its boxes count from, as for `eval`.
    """
    if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
        missing = "a folder" if path.is_dir() else "no such file"
        found = "a file too large" if path.is_file() else missing
        raise InputError(f"--init-from {path}", found=found, expected="boxes in JSON, CSV or text")
    if path.name.lower().endswith(MOT):
        return _pick_frame(path, _read_mot(path), frame)
    if path.suffix.lower() == ".jsonl":
        return _pick_frame(path, _read_json_lines(path), frame)
    if path.suffix.lower() == ".json":
        return _read_json(path, frame)
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        if file.readline().strip() == ",".join(BOX_COLUMNS):
            return _pick_frame(path, _read_csv(path, file), frame)
    return [TargetStart(_pick_line(path, frame), frame=frame)]


def _pick_frame(path: Path, rows: Iterable[TargetStart], frame: int) -> list[TargetStart]:
    starts = [row for row in rows if row.frame == frame]
    if not starts:
        raise InputError(f"--init-from {path} has no box for frame {frame}", fix="see --start")
    return starts


def _pick_line(path: Path, frame: int) -> Box:
    boxes = read_boxes(path)
    is_truth = path.name in TRUTH_FILES or TARGET_TRUTH.fullmatch(path.name)
    if frame and len(boxes) > 1 and not is_truth:
        raise InputError(
            f"--init-from {path}",
            found=f"{len(boxes)} rows that do not tell their frames",
            expected=f"one row for frame {frame}, or a ground truth",
            fix="give boxes as .csv, or name a ground truth groundtruth.txt",
        )
    row = 0 if len(boxes) == 1 else frame
    if row >= len(boxes):
        raise InputError(
            f"--init-from {path}", found=f"{len(boxes)} rows", expected=f"one for frame {frame}"
        )
    x, y, width, height = read_box(boxes[row])
    origin = read_origin(path.parent) if is_truth else 0.0
    return (x - origin, y - origin, width, height)


# Box files as `track` writes them


def _read_csv(path: Path, lines: Iterable[str]) -> Iterator[TargetStart]:
    rows = csv.DictReader(lines, BOX_COLUMNS)
    try:
        for row in rows:
            name, box = row["target"], _parse_box(row[key] for key in "xywh")
            named = int(name) if name.isdecimal() else check_name(unquote_name(name))
            yield TargetStart(box, named, int(row["frame"]))
    except (ValueError, TypeError, AttributeError, csv.Error):
        raise _refuse_line(path, rows.line_num + 1) from None


def _read_json_lines(path: Path) -> Iterator[TargetStart]:
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise _refuse_line(path, number) from None
        yield _read_row(path, row, f"line {number}")


def _read_mot(path: Path) -> Iterator[TargetStart]:
    for number, line in enumerate(_read_text(path).splitlines(), 1):
        try:
            frame, target, *numbers = line.split(",")
            x, y, width, height = _parse_box(numbers[:4])
            yield TargetStart((x - 1, y - 1, width, height), int(target) - 1, int(frame) - 1)
        except ValueError:
            raise _refuse_line(path, number) from None


def _read_row(path: Path, row: Any, place: str) -> TargetStart:
    """A row of JSON, an object with the CSV's column names."""
    named = row.get("target") if isinstance(row, dict) else None
    known = _is_count(named) or isinstance(named, str)
    if not known or not _is_count(row.get("frame")) or not _is_box([row.get(k) for k in "xywh"]):
        raise SourceError(f"{path} {place}", found=_shorten(row), expected="a box as track writes")
    name = named if isinstance(named, int) else check_name(named)
    return TargetStart(_parse_box(row[key] for key in "xywh"), name, row["frame"])


def _parse_box(numbers: Iterable[Any]) -> Box:
    x, y, width, height = map(float, numbers)
    return (x, y, width, height)


def _refuse_line(path: Path, number: int) -> SourceError:
    return SourceError(f"{path} line {number} is not a box as track writes it")


# JSON


def _read_json(path: Path, frame: int) -> list[TargetStart]:
    try:
        content = json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not JSON", found=error) from None
    if isinstance(content, list):
        if content and all(isinstance(entry, dict) and "x" in entry for entry in content):
            rows = (_read_row(path, row, f"row {n}") for n, row in enumerate(content))
            return _pick_frame(path, rows, frame)
        return [_read_entry(path, number, entry, frame) for number, entry in enumerate(content)]
    if isinstance(content, dict):
        return [
            _read_entry(path, check_name(name), entry, frame) for name, entry in content.items()
        ]
    raise SourceError(f"{path}", found=type(content).__name__, expected=JSON_FORMS)


def _read_entry(path: Path, name: int | str, entry: Any, frame: int) -> TargetStart:
    fields = entry if isinstance(entry, dict) else {"box": entry}
    box, begin, until = fields.get("box"), fields.get("frame", frame), fields.get("until")
    frames = _is_count(begin) and (until is None or _is_count(until))
    if not box or not _is_box(box) or not frames or not set(fields) <= {"box", "frame", "until"}:
        raise SourceError(f"{path}: target {name!r}", found=_shorten(entry), expected=JSON_FORMS)
    return TargetStart(_parse_box(box), name, begin, until)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(_is_number, value))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 40


def _shorten(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except ValueError as error:
        raise SourceError(f"{path} is not text", found=error) from None
