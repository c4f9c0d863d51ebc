"""Drawing on frames: a target's box and label, the search window, and the speed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.host.opencv import cv2
from relo_edge.host.terminal import escape_controls

if TYPE_CHECKING:
    from relo_edge.tracker import SearchView, Track
    from relo_edge.video.sources.frames import Frame

__all__ = ["PALETTE", "draw_rate", "draw_track", "draw_view"]

Colour = tuple[int, int, int]
"""Blue, green, red."""

PALETTE: tuple[Colour, ...] = (
    (138, 208, 63),
    (255, 163, 78),
    (32, 176, 255),
    (249, 121, 232),
    (238, 211, 34),
    (133, 113, 251),
    (53, 230, 163),
    (253, 181, 196),
)
"""One colour per target, the live page's own; the ninth target has the first one's again."""

LOST: Colour = (60, 60, 235)
OUTLINE: Colour = (20, 20, 20)
BACKGROUND: Colour = (245, 245, 245)

HEAT: Colour = (0, 140, 255)
HEAT_OPACITY = 0.7
"""Opacity of the most likely cell's colour."""

FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_track(frame: Frame, track: Track, name: str = "", *, index: int = 0) -> None:
    """Draw a target's box and label onto a frame; a lost target's box is dashed, its label red.

    A box that is not finite is left out.

    Args:
        frame: uint8 [height, width, 3], BGR; it is drawn into.
        track: the target's track in this frame.
        name: the start of the label; the confidence follows.
        index: the target's number, which picks its colour.
    """
    corners = _find_corners(frame, track)
    if corners is None:
        return
    colour = PALETTE[index % len(PALETTE)]
    thickness = max(2, round(_text_scale(frame) * 2.5))
    # A dark outline keeps the box visible on any background.
    draw_box = _draw_dashed if track.lost else cv2.rectangle
    draw_box(frame, *corners, OUTLINE, 2 * thickness)
    draw_box(frame, *corners, colour, thickness)
    confidence = "" if math.isnan(track.confidence) else f"{track.confidence:.0%}"
    state = "LOST" if track.lost else confidence
    _draw_label(frame, f"{name} {state}".strip(), corners[0], LOST if track.lost else colour)


def draw_rate(frame: Frame, fps: float) -> None:
    """Write the speed in the top left corner."""
    _draw_label(frame, f"{fps:.1f} FPS", (0, 0), BACKGROUND)


def draw_view(frame: Frame, view: SearchView) -> None:
    """Outline the search window and tint it by the map: the likelier, the stronger."""
    left, top, side, _ = view.window
    rows, columns = frame.shape[:2]
    x, right = max(left, 0), min(left + side, columns)
    y, bottom = max(top, 0), min(top + side, rows)
    if x >= right or y >= bottom:
        return
    part = frame[y:bottom, x:right]
    # The square root keeps runners-up visible beside a confident peak.
    likely = np.nan_to_num(np.exp(0.5 * (view.logits - view.logits.max()))).astype(np.float32)
    cell = side / likely.shape[0]
    # From cells to the pixels of the part within the frame, centre upon centre.
    shift = [cell / 2 - 0.5 + left - x, cell / 2 - 0.5 + top - y]
    matrix = np.array([[cell, 0, shift[0]], [0, cell, shift[1]]])
    opacity = cv2.warpAffine(
        likely, matrix, (right - x, bottom - y), borderMode=cv2.BORDER_REPLICATE
    )[..., None]
    opacity = HEAT_OPACITY * np.clip(opacity, 0, 1)
    part[:] = (part * (1 - opacity) + np.array(HEAT) * opacity).astype(np.uint8)
    thickness = max(1, round(_text_scale(frame) * 1.5))
    cv2.rectangle(frame, (left, top), (left + side - 1, top + side - 1), HEAT, thickness)


def _text_scale(frame: Frame) -> float:
    """Lines and letters grow with the frame: 1 at 720 lines."""
    rows, columns = frame.shape[:2]
    return float(min(rows, columns)) / 720


Corner = tuple[int, int]


def _find_corners(frame: Frame, track: Track) -> tuple[Corner, Corner] | None:
    """The box's corner pixels, kept near the frame: OpenCV takes no number beyond 32 bits."""
    x, y, width, height = track.box
    if not all(math.isfinite(value) for value in (x, y, x + width, y + height)):
        return None
    rows, columns = frame.shape[:2]
    left, right = (_clamp(value, columns) for value in (x, x + width - 1))
    top, bottom = (_clamp(value, rows) for value in (y, y + height - 1))
    return (left, top), (right, bottom)


def _clamp(value: float, limit: int) -> int:
    return round(min(max(value, -float(limit)), 2.0 * limit))


def _draw_dashed(frame: Frame, first: Corner, last: Corner, colour: Colour, thickness: int) -> None:
    """The rectangle's sides in dashes of equal length, gaps as long."""
    (left, top), (right, bottom) = first, last
    dash = 8 * max(1, round(2 * _text_scale(frame)))
    for x in range(left, right + 1, 2 * dash):
        for y in (top, bottom):
            cv2.line(frame, (x, y), (min(x + dash, right), y), colour, thickness)
    for y in range(top, bottom + 1, 2 * dash):
        for x in (left, right):
            cv2.line(frame, (x, y), (x, min(y + dash, bottom)), colour, thickness)


def _draw_label(frame: Frame, text: str, corner: Corner, colour: Colour) -> None:
    """Text on a filled rectangle: above the corner where there is room, always in the frame."""
    text = escape_controls(text)
    scale = max(0.4, 0.8 * _text_scale(frame))
    stroke = max(1, round(1.8 * scale))
    (width, height), baseline = cv2.getTextSize(text, FONT, scale, stroke)
    pad = max(2, round(6 * scale))
    label_width, label_height = width + 2 * pad, height + baseline + 2 * pad
    left = min(max(corner[0], 0), max(frame.shape[1] - label_width, 0))
    top = min(max(corner[1] - label_height, 0), max(frame.shape[0] - label_height, 0))
    cv2.rectangle(frame, (left, top), (left + label_width, top + label_height), colour, cv2.FILLED)
    origin = (left + pad, top + pad + height)
    cv2.putText(frame, text, origin, FONT, scale, OUTLINE, stroke, cv2.LINE_AA)
