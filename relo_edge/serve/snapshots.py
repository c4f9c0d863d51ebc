"""What a page is shown: a picture with its tracks in one message, encoded off the tracker."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from relo_edge.host.opencv import cv2
from relo_edge.serve.stage_times import StageTimes
from relo_edge.tracker import Track
from relo_edge.video.sources.frames import Frame

__all__ = ["NamedTrack", "Snapshot", "SnapshotEncoder"]

MAX_SIDE = 1280
"""Pixels of a picture's longer side; boxes and recordings keep the source's size."""

SMALL_SIDE = 480

JPEG_QUALITY = 80


@dataclass(frozen=True)
class NamedTrack:
    """A track with its target's number and name."""

    target: int
    name: str
    track: Track

    def to_dict(self) -> dict[str, Any]:
        """Plain data; a number that is not finite is null, because JSON has no word for it."""
        return {
            "target": self.target,
            "name": self.name,
            "box": [_round(value) for value in self.track.box],
            "confidence": _round(self.track.confidence, 3),
            "lost": self.track.lost,
        }


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A frame and its tracks; the number grows with every change of either."""

    number: int
    image: Frame
    captured: float
    """`time.monotonic()` when the frame arrived."""
    tracks: tuple[NamedTrack, ...]

    @cached_property
    def message(self) -> bytes:
        """Four bytes of length, JSON header, JPEG: one message, so that boxes and picture agree."""
        return self._build_message(MAX_SIDE)

    @cached_property
    def small_message(self) -> bytes:
        """The same with a small picture, for a wall of many."""
        return self._build_message(SMALL_SIDE)

    def _build_message(self, side: int) -> bytes:
        height, width = self.image.shape[:2]
        header = {
            "picture": self.number,
            "size": [width, height],
            "tracks": [track.to_dict() for track in self.tracks],
        }
        text = json.dumps(header, allow_nan=False).encode()
        return len(text).to_bytes(4, "big") + text + _encode_jpeg(self.image, side)


class SnapshotEncoder:
    """A thread that encodes the newest snapshot; those it has no time for are skipped."""

    def __init__(self, deliver: Callable[[Snapshot], object], times: StageTimes) -> None:
        self._deliver, self._times = deliver, times
        self._changed = threading.Condition()
        self._newest: Snapshot | None = None
        self._encoded = -1
        self._wanted = self._small_wanted = self._closed = False
        self._thread = threading.Thread(target=self._run, name="relo-edge-pictures")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def offer(self, snapshot: Snapshot) -> None:
        """Replace the newest snapshot; never waits."""
        with self._changed:
            self._newest = snapshot
            self._changed.notify()

    def set_wanted(self, wanted: bool, small: bool = False) -> None:
        """Encode only what viewers get; the first one gets the newest in any case."""
        with self._changed:
            if (wanted and not self._wanted) or (small and not self._small_wanted):
                self._encoded = -1
            self._wanted, self._small_wanted = wanted, small
            self._changed.notify()

    def close(self) -> None:
        """End the thread; closing twice is fine."""
        with self._changed:
            self._closed, self._newest = True, None
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (snapshot := self._wait_for_newest()) is not None:
            with self._times.measure("encode"):
                # Encoded here, once, and cached.
                if self._wanted:
                    snapshot.message  # noqa: B018
                if self._small_wanted:
                    snapshot.small_message  # noqa: B018
            self._deliver(snapshot)

    def _wait_for_newest(self) -> Snapshot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_due())
            if self._closed or self._newest is None:
                return None
            self._encoded = self._newest.number
            return self._newest

    def _is_due(self) -> bool:
        wanted = self._wanted or self._small_wanted
        return wanted and self._newest is not None and self._newest.number != self._encoded


def _encode_jpeg(image: Frame, side: int) -> bytes:
    height, width = image.shape[:2]
    scale = min(1.0, side / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return encoded.tobytes()


def _round(value: float, digits: int = 1) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
