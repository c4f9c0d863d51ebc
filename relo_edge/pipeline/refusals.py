"""Options that would change nothing are refused, not passed over."""

from __future__ import annotations

from collections.abc import Mapping

from relo_edge.errors import InputError

__all__ = ["refuse_options"]


def refuse_options(options: Mapping[str, object], why: str, fix: str = "leave it out") -> None:
    """Refuse the first of these options that is given.

    Raises:
        InputError: an option has a value that is not empty, 0, False or None.
    """
    given = next((name for name, value in options.items() if value), None)
    if given is not None:
        raise InputError(f"--{given} {why}", fix=fix)
