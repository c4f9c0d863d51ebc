"""Bundles on Triton Inference Server, and the tracker that talks to it.

Each name is imported when it is asked for: `pip install 'relo-edge[triton]'` brings the packages.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relo_edge.triton.client import TritonRuntime, TritonTracker, warm_up

__all__ = ["TritonRuntime", "TritonTracker", "warm_up"]


def __getattr__(name: str) -> Any:
    """Import on first use."""
    if name not in __all__:
        raise AttributeError(f"module 'relo_edge.triton' has no attribute {name!r}")
    return getattr(import_module("relo_edge.triton.client"), name)


def __dir__() -> list[str]:
    return __all__
