"""Sources with names: `cam1=rtsp://…` on the command line, `cam1:car=…` for a target in it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relo_edge.box_files import BOX_SUFFIXES, STDOUT
from relo_edge.errors import InputError
from relo_edge.labels.recorder import LABEL_SUFFIXES
from relo_edge.tracking.targets import TargetStart, parse_start

__all__ = ["NamedSource", "assign_starts", "check_source_name", "insert_name", "parse_sources"]
__all__ += ["strip_source"]

WORD = r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}"
NAMED = re.compile(rf"({WORD})=(.+)", re.DOTALL)

NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class NamedSource:
    """A source and what it is called: `cam1`, `cam2` … by its place where nobody named it."""

    name: str
    source: str
    named: bool = False


def check_source_name(name: str) -> str:
    """The name, if it can stand in a file's name.

    Raises:
        InputError: it cannot.
    """
    if not re.fullmatch(WORD, name):
        expected = "1 to 40 letters, digits, - and _, such as cam1"
        raise InputError("source's name", found=ascii(name), expected=expected)
    return name


def parse_sources(words: Sequence[str]) -> list[NamedSource]:
    """The sources of a command line; an existing file or folder of the whole word comes first.

    Raises:
        InputError: no source, or two of one name.
    """
    if not words:
        raise InputError("no source to follow", fix="name one")
    sources = [_parse_source(word, place) for place, word in enumerate(words, 1)]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two sources are called {name!r}", fix="name them: cam1=…, cam2=…")
    return sources


def _parse_source(word: str, place: int) -> NamedSource:
    match = NAMED.fullmatch(word)
    if match and not _exists(word):
        return NamedSource(match[1], match[2], named=True)
    return NamedSource(f"cam{place}", word)


def _exists(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False


def assign_starts(
    texts: Sequence[str], sources: Sequence[NamedSource], first: int
) -> dict[str, list[TargetStart]]:
    """Each source's targets, from `cam1:car=x,y,w,h` and the like; they start at `first`.

    Raises:
        InputError: a text that names no source, or no box.
    """
    names = [source.name for source in sources]
    starts: dict[str, list[TargetStart]] = {name: [] for name in names}
    for text in texts:
        name, colon, rest = text.partition(":")
        if not colon and (box := _join_numbers([text, *(source.source for source in sources)])):
            fix = f"write the box with commas: --init {box}"
            raise InputError("--init", found=repr(text), expected="four numbers", fix=fix)
        if not colon or name not in starts:
            found = f"{text!r} for {len(sources)} sources"
            expected = f"the source before a colon, such as {names[0]}:car=120,80,64,48"
            raise InputError("--init", found=found, expected=expected)
        start = parse_start(rest, len(starts[name]))
        starts[name].append(replace(start, frame=first))
    return starts


def _join_numbers(words: Sequence[str]) -> str | None:
    """A box that was written with spaces: its other numbers stand among the sources."""
    numbers = [word for word in words if NUMBER.fullmatch(word)]
    return ",".join(numbers) if len(numbers) == 4 else None


def strip_source(texts: Sequence[str], only: NamedSource) -> list[str]:
    """The texts of the only source, which may be named in them."""
    return [text.removeprefix(f"{only.name}:") if only.named else text for text in texts]


def insert_name(path: Path, name: str) -> Path:
    """The file of one source among several: boxes.csv becomes boxes.cam1.csv."""
    if path == STDOUT:
        return path
    suffixes = (*BOX_SUFFIXES, *LABEL_SUFFIXES, path.suffix)
    ending = max((s for s in suffixes if path.name.lower().endswith(s.lower())), key=len)
    stem = path.name[: len(path.name) - len(ending)]
    return path.with_name(f"{stem}.{name}{path.name[len(stem) :]}")
