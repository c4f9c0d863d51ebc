"""What a mistyped word was probably meant to be."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["suggest_word"]


def suggest_word(word: str, known: Iterable[str]) -> str | None:
    """A question for an error's `fix`, or None where no known word is near."""
    near = get_close_matches(word.lower(), list(known), 1)
    return f"did you mean {near[0]}?" if near else None
