"""Bundles on Triton Inference Server, and the tracker that talks to it.

Each name is imported when it is asked for: `pip install 'relo-edge[triton]'` brings the packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'relo_edge.triton' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
