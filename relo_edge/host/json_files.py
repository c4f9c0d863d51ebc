"""JSON files that a stranger may have written: regular ones, of bounded size and depth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from relo_edge.host.files import open_regular

__all__ = ["read_json"]

LARGEST = 64 << 20
DEEPEST = 32


def read_json(path: Path, largest: int = LARGEST) -> Any:
    """The content as plain data.

    Args:
        path: the file.
        largest: the most bytes it may have.

    Raises:
        OSError: the file cannot be opened.
        ValueError: it is no regular file, too large, no JSON, or nested too deeply.
    """
    with open_regular(path) as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"more than {largest} bytes")
    try:
        plain = json.loads(content)
        if b"\\ud" in content.lower():  # half of a pair cannot be written or shown again
            json.dumps(plain, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("values nested too deeply") from None
    except UnicodeError:
        raise ValueError("text that is not Unicode") from None
    except ValueError as error:
        raise ValueError(f"no JSON ({error})") from None
    _check_depth(plain)
    return plain


def _check_depth(plain: Any) -> None:
    """Level by level, because a recursion would itself run out of stack."""
    level = [plain]
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _list_inner(value)]
        if not level:
            return
    raise ValueError("values nested too deeply")


def _list_inner(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value
    return (
        [v for v in inner if isinstance(v, dict | list)] if isinstance(value, dict | list) else []
    )
