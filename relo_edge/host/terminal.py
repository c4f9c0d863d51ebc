"""Names and contents from files and streams, shown without control characters."""

from __future__ import annotations

import logging
import re
import sys

__all__ = ["ChatterHandler", "escape_controls", "print_error"]

# C0 and C1 controls and DEL, which move the cursor, rename the window or worse; lone surrogates,
# which no terminal can print; and marks that reorder the text around them.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_controls(text: str) -> str:
    """The text with every control character but newline and tab spelled out."""
    return _UNSAFE.sub(lambda found: ascii(found[0])[1:-1], text)


def print_error(message: str) -> None:
    """One line on stderr."""
    print(f"relo-edge: {escape_controls(message)}", file=sys.stderr)


class ChatterHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines on stderr."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, harmless to print."""
        return escape_controls(super().format(record))
