"""The tracker in other projects' interfaces: OpenCV, GOT-10k toolkit, VOT (TraX), supervision.

Each is imported when it is asked for: `pip install 'relo-edge[adapters]'` brings the packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relo_edge.adapters.got10k_toolkit import Got10kTracker
    from relo_edge.adapters.opencv import OpenCvTracker
    from relo_edge.adapters.supervision import track_to_detections
    from relo_edge.adapters.vot import serve_trax

__all__ = ["Got10kTracker", "OpenCvTracker", "serve_trax", "track_to_detections"]

_HOME = {
    "Got10kTracker": "relo_edge.adapters.got10k_toolkit",
    "OpenCvTracker": "relo_edge.adapters.opencv",
    "serve_trax": "relo_edge.adapters.vot",
    "track_to_detections": "relo_edge.adapters.supervision",
}


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'relo_edge.adapters' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
