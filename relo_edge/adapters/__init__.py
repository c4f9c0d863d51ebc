"""The tracker in other projects' interfaces: OpenCV, GOT-10k toolkit, VOT (TraX), supervision.

Each is imported when it is asked for: `pip install 'relo-edge[adapters]'` brings the packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relo_edge.host.lazy_imports import import_on_use

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


__getattr__ = import_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
