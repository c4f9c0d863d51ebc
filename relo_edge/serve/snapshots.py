"""What a page is shown: a picture with its tracks in one message, made off the tracker's thread."""

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
from relo_edge.serve.stage_times import Meter
from relo_edge.tracker import Track
from relo_edge.video.sources.frames import Frame

__all__ = ["NamedTrack", "PictureMaker", "Shot"]

LONGEST_SIDE = 1280
"""Pixels of a picture's longer side; boxes and recordings keep the source's own."""

QUALITY = 80


@dataclass(frozen=True)
class NamedTrack:
    """A track, and whose it is."""

    target: int
    name: str
    track: Track

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what is no number is null, because JSON has no word for it."""
        return {
            "target": self.target,
            "name": self.name,
            "box": [_round(value) for value in self.track.box],
            "confidence": _round(self.track.confidence, 3),
            "lost": self.track.lost,
        }


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame and what was found in it; the number grows with every change of either."""

    number: int
    image: Frame
    captured: float
    """`time.monotonic()` of the frame's arrival."""
    tracks: tuple[NamedTrack, ...]

    @cached_property
    def message(self) -> bytes:
        """Length of the JSON head in four bytes, head, JPEG: one message, so that boxes fit."""
        height, width = self.image.shape[:2]
        head = {
            "picture": self.number,
            "size": [width, height],
            "tracks": [track.to_dict() for track in self.tracks],
        }
        text = json.dumps(head, allow_nan=False).encode()
        return len(text).to_bytes(4, "big") + text + _encode_picture(self.image)


class PictureMaker:
    """A thread that turns the newest shot into a message; shots it has no time for are skipped."""

    def __init__(self, deliver: Callable[[Shot], object], meter: Meter) -> None:
        self._deliver, self._meter = deliver, meter
        self._changed = threading.Condition()
        self._newest: Shot | None = None
        self._made = -1
        self._wanted = self._closed = False
        self._thread = threading.Thread(target=self._run, name="relo-edge-pictures")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def offer(self, shot: Shot) -> None:
        """Take the newest shot; never waits."""
        with self._changed:
            self._newest = shot
            self._changed.notify()

    def want(self, wanted: bool) -> None:
        """Without a viewer nothing is encoded; the first one gets the newest in any case."""
        with self._changed:
            if wanted and not self._wanted:
                self._made = -1
            self._wanted = wanted
            self._changed.notify()

    def close(self) -> None:
        """End the thread; closing twice is fine."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while (shot := self._take()) is not None:
            with self._meter.time("encode"):
                shot.message  # noqa: B018  made here, once, and kept
            self._deliver(shot)

    def _take(self) -> Shot | None:
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._is_due())
            if self._closed or self._newest is None:
                return None
            self._made = self._newest.number
            return self._newest

    def _is_due(self) -> bool:
        return self._wanted and self._newest is not None and self._newest.number != self._made


def _encode_picture(image: Frame) -> bytes:
    height, width = image.shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    return encoded.tobytes()


def _round(value: float, digits: int = 1) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
