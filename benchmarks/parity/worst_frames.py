"""The frames in which two tracks differ most, drawn and kept as text: a report needs no files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from relo_edge.benchmarks.parity.rollout import Rollout
from relo_edge.geometry import Box, read_box
from relo_edge.host.opencv import cv2
from relo_edge.video.opening import Frame

__all__ = ["Picture", "draw_worst_frames"]

COUNT = 3
SAME = 0.9
"""Boxes that overlap by more look alike in a picture."""

WIDTH = 480
GREEN, RED = (80, 200, 60), (60, 60, 230)
"""The reference and the candidate, blue first."""


@dataclass(frozen=True)
class Picture:
    """One frame with both boxes: the reference's green, the candidate's red."""

    clip: str
    frame: int
    iou: float
    jpeg: str
    """The picture in base64."""


def draw_worst_frames(rollouts: Sequence[Rollout]) -> list[Picture]:
    """Each clip's worst frame, the worst clips first; none where the boxes stay together."""
    worst = [(float(np.min(r.overlaps)), r) for r in rollouts]
    apart = sorted((pair for pair in worst if pair[0] < SAME), key=lambda pair: pair[0])
    return [_draw_worst(rollout) for _, rollout in apart[:COUNT]]


def _draw_worst(rollout: Rollout) -> Picture:
    row = int(np.argmin(rollout.overlaps))
    number = rollout.segment.frames[row + 1]
    with closing(rollout.segment.clip.read_frames(range(number, number + 1))) as frames:
        frame = next(frames)
    boxes = read_box(rollout.expected[row]), read_box(rollout.boxes[row])
    return Picture(
        rollout.segment.clip.name, number, float(rollout.overlaps[row]), _draw(frame, *boxes)
    )


def _draw(frame: Frame, expected: Box, found: Box) -> str:
    scale = min(1.0, WIDTH / frame.shape[1])
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    for box, color in ((expected, GREEN), (found, RED)):
        x, y, width, height = (scale * side for side in box)
        corners = (round(x), round(y)), (round(x + width), round(y + height))
        cv2.rectangle(small, *corners, color, 2, cv2.LINE_AA)
    _, content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
    return base64.b64encode(content.tobytes()).decode("ascii")
