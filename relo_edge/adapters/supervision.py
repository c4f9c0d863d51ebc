"""Tracks as supervision's `Detections`, for roboflow's annotators and zones."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from relo_edge.adapters.packages import import_package

if TYPE_CHECKING:
    from relo_edge.tracker import Track

__all__ = ["track_to_detections"]


def track_to_detections(tracks: Mapping[int, Track] | Mapping[str, Track]) -> Any:
    """One frame's tracks, as `MultiTracker.update` returns them, for supervision.

    Args:
        tracks: a track for each target; `{0: track}` for one that a `Tracker` follows.

    Returns:
        `supervision.Detections`: corners, confidence, the target's number as `tracker_id` (one
        made from its name where it has one, the same in every frame), and in `data` its name as
        `class_name` and whether it is `lost`.

    Raises:
        MissingDependency: supervision is not installed.
    """
    supervision = import_package("supervision", "supervision")
    boxes = np.array([track.box for track in tracks.values()], np.float32).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    numbers = [name if isinstance(name, int) else _number(name) for name in tracks]
    return supervision.Detections(
        xyxy=boxes,
        confidence=np.array([track.confidence for track in tracks.values()], np.float32),
        class_id=np.zeros(len(tracks), int),
        tracker_id=np.array(numbers, int),
        data={
            "class_name": np.array([str(name) for name in tracks]),
            "lost": np.array([track.lost for track in tracks.values()], bool),
        },
    )


def _number(name: str) -> int:
    """A target keeps its number while others come and go; supervision's are of 31 bits here."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF
