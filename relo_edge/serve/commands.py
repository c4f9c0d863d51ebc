"""The commands of a page, checked completely before anything acts on them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from relo_edge.errors import InputError
from relo_edge.geometry import Box

__all__ = ["COMMANDS", "Command", "parse_command"]

MAX_NUMBER = 2**31

COMMANDS: dict[str, tuple[str, ...]] = {
    "seen": ("picture",),
    "add": ("picture", "box"),
    "find": ("picture", "words"),
    "remove": ("target",),
    "clear": (),
    "pause": (),
    "resume": (),
    "restart": (),
    "record": (),
    "stop-recording": (),
}
"""Each command's fields; all but `seen` also carry an `id`, which the answer repeats."""


@dataclass(frozen=True)
class Command:
    """One command of one page; fields that its kind does not have are None."""

    do: str
    id: int | None = None
    picture: int | None = None
    """The number of the picture that the page shows."""
    box: Box | None = None
    """Pixels of the source's frames, whatever size the page shows them at."""
    target: int | None = None
    words: str | None = None
    """What the finder is asked for."""


def parse_command(text: str | None) -> Command:
    """The command in a message; None stands for a binary message.

    Raises:
        InputError: the message is not exactly one known command.
    """
    if text is None:
        raise InputError("message", found="a binary message", expected="a JSON object")
    message = _read_object(text)
    do = message.get("do")
    if not isinstance(do, str) or do not in COMMANDS:
        raise InputError("do", found=_show(do), expected=" | ".join(COMMANDS))
    fields = COMMANDS[do] if do == "seen" else ("id", *COMMANDS[do])
    if set(message) != {"do", *fields}:
        raise InputError(
            f"command {do}",
            found=_show(sorted(message)),
            expected=f"exactly {', '.join(['do', *fields])}",
        )
    return Command(do, **{name: _READERS[name](name, message[name]) for name in fields})


def _read_object(text: str) -> dict[str, Any]:
    try:
        message = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise InputError("message", found=_show(text), expected="a JSON object") from None
    if not isinstance(message, dict):
        raise InputError("message", found=_show(message), expected="a JSON object")
    return message


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _read_count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < MAX_NUMBER:
        raise InputError(
            name, found=_show(value), expected=f"a whole number from 0 to {MAX_NUMBER - 1}"
        )
    return value


def _read_box(name: str, value: object) -> Box:
    if not isinstance(value, list) or len(value) != 4 or not all(map(_is_number, value)):
        raise InputError(name, found=_show(value), expected="four numbers [x, y, w, h] in pixels")
    x, y, width, height = map(float, value)
    return (x, y, width, height)


def _read_words(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(name, found=_show(value), expected="a text")
    return value


def _is_number(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) < MAX_NUMBER  # which NaN is not either
    )


_READERS: dict[str, Callable[[str, object], Any]] = {
    "id": _read_count,
    "picture": _read_count,
    "target": _read_count,
    "box": _read_box,
    "words": _read_words,
}


def _show(value: object, limit: int = 60) -> str:
    """The value for an error line: short and printable, whatever it is."""
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("ascii", "backslashreplace").decode()
    return repr(text if len(text) <= limit else f"{text[:limit]}…")
