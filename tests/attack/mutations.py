"""Plain data spoiled at every place, in every way that a reader may not have thought of."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

EVIL = {
    "null": None,
    "true": True,
    "list": [],
    "object": {},
    "text": "text",
    "empty": "",
    "long": "x" * 100_000,
    "control": "\x1b]0;owned\x07\x1b[2J",
    "surrogate": "\ud800",
    "parent": "../../canary",
    "absolute": "/etc/passwd",
    "nul": "a\0b",
    "negative": -1,
    "zero": 0,
    "huge": 10**30,
    "digits": 10**4000,
    "float": 1.5,
    "nan": float("nan"),
    "infinity": float("inf"),
    "many": list(range(20_000)),
    "deep": [[[[[[[[[["deep"]]]]]]]]]],
}
MISSING = object()


def list_places(plain: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, the whole included; of long lists the first entry only."""
    yield path
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from list_places(value, (*path, key))
    elif isinstance(plain, list) and plain:
        yield from list_places(plain[0], (*path, 0))


def spoil(plain: Any) -> Iterator[tuple[str, Any]]:
    """A name and a copy for every place and every evil value, and for everything left out."""
    for path in list_places(plain):
        where = ".".join(map(str, path)) or "all"
        for name, value in EVIL.items():
            yield f"{where} {name}", _replace(plain, path, value)
        if path:
            yield f"{where} left out", _replace(plain, path, MISSING)
        if path and isinstance(path[-1], str):
            for name in ("control", "parent", "surrogate", "empty"):
                yield f"{where} key {name}", _rename(plain, path, EVIL[name])


def _replace(plain: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    changed = copy.deepcopy(plain)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    if value is MISSING:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return changed


def _rename(plain: Any, path: tuple[Any, ...], name: str) -> Any:
    changed = copy.deepcopy(plain)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[name] = holder.pop(path[-1])
    return changed


RAW = {
    "empty": b"",
    "half": b'{"format": 1, "var',
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "digits": b'{"format": ' + b"9" * 100_000 + b"}",
    "not utf-8": b"\xff\xfe\x00",
    "byte order mark": b"\xef\xbb\xbf{}",
    "nul": b"\0" * 1000,
    "keys": b"{" + b",".join(b'"%d":1' % n for n in range(200_000)) + b"}",
}
"""What is no JSON at all, or none that anybody would write."""
