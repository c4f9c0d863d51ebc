"""matplotlib, asked for before any work is done for a plot."""

from __future__ import annotations

from relo_edge.errors import InputError

__all__ = ["demand_matplotlib"]


def demand_matplotlib(what: str) -> None:
    """Refuse an option whose plot could not be drawn: wrong usage, not a failed gate."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{what} needs matplotlib", found=error, fix="`pip install 'relo-edge[bench]'`"
        ) from None
