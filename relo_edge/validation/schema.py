"""What plain data from a file must look like: checked once, where it is read.

A schema is a function that raises `Mismatch` on the first value that does not fit. Small ones are
put together into larger ones; a package for this (msgspec, pydantic) would be one more thing that
every edge device installs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "Mismatch",
    "Schema",
    "check_anything",
    "check_file_name",
    "check_flag",
    "check_scalar",
    "check_sha256",
    "is_choice",
    "is_list",
    "is_map",
    "is_number",
    "is_optional",
    "is_record",
    "is_text",
    "is_whole",
]

Schema = Callable[[Any], None]

LONGEST_TEXT = 4096
MOST_ENTRIES = 10_000
FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,127}")
SHA256 = re.compile(r"[0-9a-f]{64}")
SHOWN = 48


class Mismatch(ValueError):
    """A value that does not fit: where it stands, what it is and what was expected."""

    def __init__(self, found: str, expected: str, place: str = "") -> None:
        super().__init__(found, expected, place)
        self.found = found
        self.expected = expected
        self.place = place

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        return f"{where}{self.found} in the place of {self.expected}"

    def below(self, key: object) -> Mismatch:
        """The same, seen from one level higher."""
        name = _quote(key) if not isinstance(key, str) or not FILE_NAME.fullmatch(key) else key
        return Mismatch(self.found, self.expected, f"{name}.{self.place}".rstrip("."))


def is_text(longest: int = LONGEST_TEXT, *, empty: bool = True) -> Schema:
    """A string of bounded length."""

    def check(value: Any) -> None:
        _demand(isinstance(value, str), value, "a text")
        _demand(len(value) <= longest, value, f"at most {longest} characters")
        _demand(bool(value) or empty, value, "a text that is not empty")

    return check


def is_whole(least: int, most: int) -> Schema:
    """A whole number in a range."""

    def check(value: Any) -> None:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        _demand(fits, value, f"a whole number from {least} to {most}")

    return check


def is_number(least: float = -math.inf, most: float = math.inf) -> Schema:
    """A finite number in a range."""
    words = "a finite number" if math.isinf(least) and math.isinf(most) else ""

    def check(value: Any) -> None:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and abs(value) < 1e300 and least <= value <= most
        _demand(fits, value, words or f"a number from {least:g} to {most:g}")

    return check


def check_anything(_value: Any) -> None:
    """What nobody looks into."""


def check_scalar(value: Any) -> None:
    """Null, a text, a number or a flag."""
    if not isinstance(value, bool | None):
        (is_text() if isinstance(value, str) else is_number())(value)


def check_flag(value: Any) -> None:
    """True or false."""
    _demand(isinstance(value, bool), value, "true or false")


def is_choice(*values: str) -> Schema:
    """One of a few strings."""

    def check(value: Any) -> None:
        _demand(isinstance(value, str) and value in values, value, " or ".join(values))

    return check


def is_optional(schema: Schema) -> Schema:
    """Null, or what fits the schema."""

    def check(value: Any) -> None:
        if value is not None:
            schema(value)

    return check


def is_list(entry: Schema, shortest: int = 0, longest: int = MOST_ENTRIES) -> Schema:
    """A list of bounded length whose entries all fit."""

    def check(value: Any) -> None:
        _demand(isinstance(value, list), value, "a list")
        _demand(shortest <= len(value) <= longest, value, f"{shortest} to {longest} entries")
        for index, item in enumerate(value):
            _check_below(index, item, entry)

    return check


def is_map(key: Schema, entry: Schema, most: int = MOST_ENTRIES) -> Schema:
    """An object of bounded size whose keys and values all fit."""

    def check(value: Any) -> None:
        _demand(isinstance(value, dict), value, "an object")
        _demand(len(value) <= most, value, f"at most {most} entries")
        for name, item in value.items():
            key(name)
            _check_below(name, item, entry)

    return check


def is_record(
    required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None
) -> Schema:
    """An object with these keys; others, of a newer minor version, are left alone."""

    def check(value: Any) -> None:
        _demand(isinstance(value, dict), value, "an object")
        for name, schema in required.items():
            if name not in value:
                raise Mismatch("nothing", "a value", name)
            _check_below(name, value[name], schema)
        for name, schema in (optional or {}).items():
            if name in value:
                _check_below(name, value[name], schema)

    return check


def check_file_name(value: Any) -> None:
    """A plain file name: it cannot lead out of the folder that it is meant for."""
    fits = isinstance(value, str) and FILE_NAME.fullmatch(value) is not None
    _demand(fits, value, "a plain file name")


def check_sha256(value: Any) -> None:
    """A SHA-256 in hexadecimal."""
    fits = isinstance(value, str) and SHA256.fullmatch(value) is not None
    _demand(fits, value, "a SHA-256")


def _check_below(key: object, value: Any, schema: Schema) -> None:
    try:
        schema(value)
    except Mismatch as error:
        raise error.below(key) from None


def _demand(holds: bool, value: Any, expected: str) -> None:
    if not holds:
        raise Mismatch(_quote(value), expected)


def _quote(value: Any) -> str:
    """A value from a file, short and harmless to print."""
    if isinstance(value, dict | list):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)} entries"
    if isinstance(value, int) and abs(value) >= 1 << 64:
        return "a number beyond all bounds"
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
