"""Bundles on Triton Inference Server, and the tracker that talks to it.

Each name is imported when it is asked for: `pip install 'relo-edge[triton]'` brings the packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relo_edge.host.lazy_imports import import_on_use

if TYPE_CHECKING:
    from relo_edge.remote.remote_tracker import RemoteTrack
    from relo_edge.triton.client import TritonRuntime, TritonTracker, warm_up

__all__ = ["RemoteTrack", "TritonRuntime", "TritonTracker", "warm_up"]

_HOME = {
    "RemoteTrack": "relo_edge.remote.remote_tracker",
    "TritonRuntime": "relo_edge.triton.client",
    "TritonTracker": "relo_edge.triton.client",
    "warm_up": "relo_edge.triton.client",
}


__getattr__ = import_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
