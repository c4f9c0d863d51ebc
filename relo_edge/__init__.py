"""relo-edge: take a trained RELO tracker to the edge, and prove that it is still the same tracker.

The public API is what `__all__` names; `relo_edge.pipeline` has a function for each verb of the
command line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relo_edge.host.lazy_imports import import_on_use

if TYPE_CHECKING:
    from relo_edge.bundle import Bundle, open_bundle
    from relo_edge.errors import (
        BundleError,
        CalibrationError,
        CheckpointError,
        DeviceError,
        FinderError,
        GateError,
        InputError,
        MissingDependency,
        NoSpaceError,
        PrecisionError,
        ReloError,
        RuntimeUnavailable,
        SourceError,
    )
    from relo_edge.lost import LostRule, Recovery
    from relo_edge.runtime import Runtime, StepResult, open_runtime
    from relo_edge.spec import TrackerProtocol, TrackerVariant, Variant
    from relo_edge.streams.fleet import Fleet, StreamFrame
    from relo_edge.tracker import MultiTracker, Track, Tracker
    from relo_edge.tracking.overlay import draw_track
    from relo_edge.video.live import LiveFrame, LiveReader, ReconnectPolicy, read_live

__version__ = "0.2.0"

_ROOMS = {
    "relo_edge.bundle": ("Bundle", "open_bundle"),
    "relo_edge.errors": (
        "BundleError",
        "CalibrationError",
        "CheckpointError",
        "DeviceError",
        "FinderError",
        "GateError",
        "InputError",
        "MissingDependency",
        "NoSpaceError",
        "PrecisionError",
        "ReloError",
        "RuntimeUnavailable",
        "SourceError",
    ),
    "relo_edge.lost": ("LostRule", "Recovery"),
    "relo_edge.runtime": ("Runtime", "StepResult", "open_runtime"),
    "relo_edge.spec": ("TrackerProtocol", "TrackerVariant", "Variant"),
    "relo_edge.streams.fleet": ("Fleet", "StreamFrame"),
    "relo_edge.tracker": ("MultiTracker", "Track", "Tracker"),
    "relo_edge.tracking.overlay": ("draw_track",),
    "relo_edge.video.live": ("LiveFrame", "LiveReader", "ReconnectPolicy", "read_live"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}

__all__ = [
    "Bundle",
    "BundleError",
    "CalibrationError",
    "CheckpointError",
    "DeviceError",
    "FinderError",
    "Fleet",
    "GateError",
    "InputError",
    "LiveFrame",
    "LiveReader",
    "LostRule",
    "MissingDependency",
    "MultiTracker",
    "NoSpaceError",
    "PrecisionError",
    "ReconnectPolicy",
    "Recovery",
    "ReloError",
    "Runtime",
    "RuntimeUnavailable",
    "SourceError",
    "StepResult",
    "StreamFrame",
    "Track",
    "Tracker",
    "TrackerProtocol",
    "TrackerVariant",
    "Variant",
    "draw_track",
    "open_bundle",
    "open_runtime",
    "read_live",
]


__getattr__ = import_on_use(__name__, _HOME)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
