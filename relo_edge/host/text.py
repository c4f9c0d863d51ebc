"""Text from outside, made safe to show: a name may hold what commands a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["escape_controls"]

ESCAPED_CATEGORIES = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
"""Control and format characters (which reorder text), surrogates, unassigned, line separators."""


def escape_controls(text: str) -> str:
    r"""The text with each control character written as `\x1b` or `\u202e`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in ESCAPED_CATEGORIES else letter
        for letter in text
    )
