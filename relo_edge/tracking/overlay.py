"""What a viewer sees: the box, whose it is, how sure the tracker is, and how fast."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.host.opencv import cv2

if TYPE_CHECKING:
    from relo_edge.tracker import SearchView, Track
    from relo_edge.video.sources.frames import Frame

__all__ = ["draw_rate", "draw_track", "draw_view"]

Colour = tuple[int, int, int]

FOLLOWED: Colour = (80, 220, 60)
LOST: Colour = (60, 60, 235)
INK: Colour = (20, 20, 20)
PAPER: Colour = (245, 245, 245)

HEAT: Colour = (0, 140, 255)
TINT = 0.7
"""How much of the picture the likeliest cell's colour covers."""

FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_track(frame: Frame, track: Track, name: str) -> None:
    """Draw one target's box and label onto the frame, red when it is lost."""
    corners = _place_corners(frame, track)
    if corners is None:
        return
    colour = LOST if track.lost else FOLLOWED
    line = max(2, round(_measure_unit(frame) * 2.5))
    # A dark rim keeps the box visible on any background.
    cv2.rectangle(frame, *corners, INK, 2 * line)
    cv2.rectangle(frame, *corners, colour, line)
    state = "LOST" if track.lost else f"{track.confidence:.0%}"
    _draw_label(frame, f"{name} {state}", corners[0], colour)


def draw_rate(frame: Frame, fps: float) -> None:
    """Write the speed in the top left corner."""
    _draw_label(frame, f"{fps:.1f} FPS", (0, 0), PAPER)


def draw_view(frame: Frame, view: SearchView) -> None:
    """Frame the search window and tint it by the policy: the likelier a cell, the stronger."""
    left, top, side, _ = view.window
    rows, columns = frame.shape[:2]
    x, right = max(left, 0), min(left + side, columns)
    y, bottom = max(top, 0), min(top + side, rows)
    if x >= right or y >= bottom:
        return
    part = frame[y:bottom, x:right]
    # The root lets the runners-up be seen beside a policy that is sure.
    likely = np.nan_to_num(np.exp(0.5 * (view.policy - view.policy.max()))).astype(np.float32)
    cell = side / likely.shape[0]
    # From cells to the pixels of the part that is in the picture, centre upon centre.
    shift = [cell / 2 - 0.5 + left - x, cell / 2 - 0.5 + top - y]
    matrix = np.array([[cell, 0, shift[0]], [0, cell, shift[1]]])
    strength = cv2.warpAffine(
        likely, matrix, (right - x, bottom - y), borderMode=cv2.BORDER_REPLICATE
    )[..., None]
    strength = TINT * np.clip(strength, 0, 1)
    part[:] = (part * (1 - strength) + np.array(HEAT) * strength).astype(np.uint8)
    line = max(1, round(_measure_unit(frame) * 1.5))
    cv2.rectangle(frame, (left, top), (left + side - 1, top + side - 1), HEAT, line)


def _measure_unit(frame: Frame) -> float:
    """Line and letter sizes grow with the picture: 1 at 720 lines."""
    rows, columns = frame.shape[:2]
    return float(min(rows, columns)) / 720


def _place_corners(frame: Frame, track: Track) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The box's pixels, kept near the frame: OpenCV takes no number beyond 32 bits."""
    x, y, width, height = track.box
    if not all(math.isfinite(value) for value in (x, y, x + width, y + height)):
        return None
    rows, columns = frame.shape[:2]
    left, right = (_hold_near(value, columns) for value in (x, x + width - 1))
    top, bottom = (_hold_near(value, rows) for value in (y, y + height - 1))
    return (left, top), (right, bottom)


def _hold_near(value: float, limit: int) -> int:
    return round(min(max(value, -float(limit)), 2.0 * limit))


def _draw_label(frame: Frame, text: str, corner: tuple[int, int], colour: Colour) -> None:
    """Text on a plate: above the corner where there is room, always within the frame."""
    scale = max(0.4, 0.8 * _measure_unit(frame))
    stroke = max(1, round(1.8 * scale))
    (width, height), baseline = cv2.getTextSize(text, FONT, scale, stroke)
    pad = max(2, round(6 * scale))
    plate_width, plate_height = width + 2 * pad, height + baseline + 2 * pad
    left = min(max(corner[0], 0), max(frame.shape[1] - plate_width, 0))
    top = min(max(corner[1] - plate_height, 0), max(frame.shape[0] - plate_height, 0))
    cv2.rectangle(frame, (left, top), (left + plate_width, top + plate_height), colour, cv2.FILLED)
    origin = (left + pad, top + pad + height)
    cv2.putText(frame, text, origin, FONT, scale, INK, stroke, cv2.LINE_AA)
