"""Options in a source's name, such as `synthetic:seed=0,size=640x480,fps=30`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from relo_edge.errors import InputError

__all__ = ["read_count", "read_fps", "read_options", "read_size"]

MAX_SIDE = 8192
MAX_FPS = 240.0


def read_options(
    source: str, text: str, readers: Mapping[str, Callable[[str], object]]
) -> dict[str, object]:
    """The options in `name=value,name=value`, each parsed by its own reader."""
    options: dict[str, object] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or name not in readers or name in options:
            raise InputError(
                f"source {source!r}",
                found=repr(part),
                expected=" ".join(f"{known}=…" for known in readers) + ", each once",
            )
        try:
            options[name] = readers[name](value)
        except ValueError as error:
            what = f"source {source!r}: {name}"
            raise InputError(what, found=repr(value), expected=error) from None
    return options


def read_size(text: str) -> tuple[int, int]:
    """Width and height, as in 640x480."""
    sides = text.lower().split("x")
    if len(sides) != 2 or not all(side.isdecimal() for side in sides):
        raise ValueError("a size such as 640x480")
    width, height = (int(side[:9]) for side in sides)
    if not (64 <= width <= MAX_SIDE and 64 <= height <= MAX_SIDE):
        raise ValueError(f"sides from 64 to {MAX_SIDE}")
    return width, height


def read_fps(text: str) -> float:
    """Frames per second."""
    expected = f"a rate from 1 to {MAX_FPS:g}"
    try:
        fps = float(text)
    except ValueError:
        raise ValueError(expected) from None
    if not 1 <= fps <= MAX_FPS:
        raise ValueError(expected)
    return fps


def read_count(low: int, high: int) -> Callable[[str], int]:
    """A reader for whole numbers within limits."""

    def read(text: str) -> int:
        if not text.isdecimal() or not low <= int(text[:18]) <= high:
            raise ValueError(f"a whole number from {low} to {high}")
        return int(text)

    return read
