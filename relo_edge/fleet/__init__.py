"""Trackers on a Ray cluster: replicas that keep their streams' state, and the tracker over them.

Each name is imported when it is asked for: `pip install 'relo-edge[fleet]'` brings Ray Serve.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relo_edge.host.lazy_imports import import_on_use

if TYPE_CHECKING:
    from relo_edge.fleet.client import FleetRuntime, FleetTracker
    from relo_edge.fleet.deployment import FleetOptions, build_app, deploy
    from relo_edge.remote.remote_tracker import RemoteTrack

__all__ = ["FleetOptions", "FleetRuntime", "FleetTracker", "RemoteTrack", "build_app", "deploy"]

_HOME = {
    "FleetOptions": "relo_edge.fleet.deployment",
    "FleetRuntime": "relo_edge.fleet.client",
    "FleetTracker": "relo_edge.fleet.client",
    "RemoteTrack": "relo_edge.remote.remote_tracker",
    "build_app": "relo_edge.fleet.deployment",
    "deploy": "relo_edge.fleet.deployment",
}


__getattr__ = import_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return __all__
