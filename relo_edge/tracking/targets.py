"""The targets to track: boxes from the command line, from a file, or drawn with the mouse."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from relo_edge.errors import InputError, SourceError
from relo_edge.tracking.target_files import TargetStart, check_name, read_starts
from relo_edge.video.feed import FeedFrame
from relo_edge.video.window import select_boxes

__all__ = [
    "GIVEN_SCORE",
    "TargetStart",
    "check_starts",
    "gather_starts",
    "parse_start",
    "report_missed",
    "select_starts",
]

log = logging.getLogger("relo_edge")

GIVEN_SCORE = 1.0
"""Score and confidence of a target's start frame, whose box is given and not tracked."""


def parse_start(text: str, number: int = 0) -> TargetStart:
    """The target in `--init x,y,w,h` or `--init name=x,y,w,h`; without a name it has a number."""
    name, equals, numbers = text.rpartition("=")
    try:
        x, y, width, height = (float(number) for number in numbers.split(","))
    except ValueError:
        raise InputError(
            "--init",
            found=repr(text),
            expected="four numbers x,y,w,h such as 120,80,64,48, or car=120,80,64,48",
        ) from None
    return TargetStart((x, y, width, height), check_name(name) if equals else number)


def gather_starts(texts: Sequence[str], path: Path | None, first: int) -> list[TargetStart]:
    """The targets of the command line and of a file; they start at `first` unless it says more."""
    given = [replace(parse_start(text, n), frame=first) for n, text in enumerate(texts)]
    if path is None:
        return given
    if not (read := read_starts(path, first)):
        raise InputError(f"targets in {path}", found="none", expected="a box for each")
    return given + read


def select_starts(frame: FeedFrame, starts: Sequence[TargetStart]) -> list[TargetStart]:
    """The given targets and those that a user draws on the frame."""
    boxes = select_boxes(frame.image, "relo-edge: draw a box, Enter, … then Esc")
    numbers = range(len(starts), len(starts) + len(boxes))
    drawn = [TargetStart(box, n, frame.number) for n, box in zip(numbers, boxes, strict=True)]
    return [*starts, *drawn]


def check_starts(starts: Sequence[TargetStart], first: int) -> list[TargetStart]:
    """The targets by start frame, if their names differ and none starts before `first`."""
    if not starts:
        raise InputError(
            "no target to track",
            fix="give --init X,Y,W,H, --init-from FILE or --select",
        )
    names = [str(start.name) for start in starts]
    if len(set(names)) != len(names):
        double = next(name for name in names if names.count(name) > 1)
        raise InputError(f"two targets are called {double!r}", fix="give each a name of its own")
    for start in starts:
        if start.frame < first or (start.until is not None and start.until <= start.frame):
            raise InputError(
                f"target {start.name!r}",
                found=f"start frame {start.frame} and end frame {start.until}",
                expected=f"a start from frame {first} on, and a later end",
            )
    return sorted(starts, key=lambda start: start.frame)


def report_missed(missed: Sequence[TargetStart], source: str, last: int, started: int) -> None:
    """Name the targets whose start frames did not come, after a run that ended with frame `last`.

    Raises:
        SourceError: no other target was started either.
    """
    lines = [
        SourceError(
            f"target {start.name!r} was never started",
            found=f"no frame {start.frame} in {source}, whose last is {last}",
            fix="correct its start frame",
        )
        for start in missed
    ]
    if lines and not started:
        raise lines[0]
    for line in lines:
        log.warning("%s", line)
