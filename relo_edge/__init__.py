"""relo-edge: take a trained RELO checkpoint to the edge, exactly."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relo_edge.errors import ReloError
    from relo_edge.lost import LostRule, Recovery
    from relo_edge.runtime import open_runtime
    from relo_edge.tracker import MultiTracker, Track, Tracker
    from relo_edge.video.live import read_live

__all__ = [
    "LostRule",
    "MultiTracker",
    "Recovery",
    "ReloError",
    "Track",
    "Tracker",
    "open_runtime",
    "read_live",
]

__version__ = "0.1.0"

_HOME = {
    "LostRule": "relo_edge.tracker",
    "MultiTracker": "relo_edge.tracker",
    "Recovery": "relo_edge.lost",
    "ReloError": "relo_edge.errors",
    "Track": "relo_edge.tracker",
    "Tracker": "relo_edge.tracker",
    "open_runtime": "relo_edge.runtime",
    "read_live": "relo_edge.video.live",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `import relo_edge` costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module 'relo_edge' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
