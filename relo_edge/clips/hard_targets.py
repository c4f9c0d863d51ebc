"""Clips whose targets are hard on arithmetic: bright, dark, small, large, cut by the border."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np

from relo_edge.geometry import Boxes, clip_to_picture, read_box
from relo_edge.host.opencv import cv2
from relo_edge.synthetic.clip import SyntheticClip, make_clip
from relo_edge.video.opening import Frame

__all__ = ["HARD_TARGETS", "HardClip", "make_hard_clip"]

SEED = 7
SIZE = (640, 360)


@dataclass(frozen=True)
class HardTarget:
    """How a plain clip is changed: the picture's brightness, and where its target is shown."""

    gain: float = 1.0
    lift: float = 0.0
    """Grey levels added after the gain."""
    height: float | None = None
    """The target's height as a share of the picture's; as it is if None."""
    place: tuple[float, float] | None = None
    """Where in the picture the target's centre is at first; where it is if None."""


HARD_TARGETS = {
    "plain": HardTarget(),
    "bright": HardTarget(gain=0.8, lift=120),
    "dark": HardTarget(gain=0.15),
    "small": HardTarget(height=0.03, place=(0.6, 0.4)),
    "large": HardTarget(height=0.95, place=(0.5, 0.5)),
    "border": HardTarget(place=(0.02, 0.97)),
}


@dataclass(frozen=True, eq=False)
class HardClip:
    """A drawn clip with its target's boxes [n,4], cut at the picture's border."""

    name: str
    boxes: Boxes
    frames: Callable[[], Generator[Frame, None, None]]


def make_hard_clip(name: str, frames: int) -> HardClip:
    """One of HARD_TARGETS, the same each time."""
    target, clip = HARD_TARGETS[name], make_clip(SEED, frames, SIZE)
    zoom, shift = _place_target(target, clip)
    shown = np.hstack([clip.boxes[:, :2] * zoom + shift, clip.boxes[:, 2:] * zoom])
    boxes = np.array([clip_to_picture(read_box(box), SIZE) for box in shown])
    matrix = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
    lit = (np.arange(256) * target.gain + target.lift).round().clip(0, 255).astype(np.uint8)

    def draw() -> Generator[Frame, None, None]:
        for frame in clip.frames():
            moved = cv2.warpAffine(frame, matrix, SIZE, borderMode=cv2.BORDER_REFLECT_101)
            yield cv2.LUT(moved, lit).astype(np.uint8, copy=False)

    return HardClip(name, boxes, draw)


def _place_target(target: HardTarget, clip: SyntheticClip) -> tuple[float, Boxes]:
    """The zoom, and the shift in pixels after it."""
    x, y, width, height = clip.boxes[0]
    centre = np.array([x + width / 2, y + height / 2])
    zoom = 1.0 if target.height is None else target.height * SIZE[1] / height
    wanted = centre if target.place is None else np.array(target.place) * SIZE
    return float(zoom), wanted - zoom * centre
