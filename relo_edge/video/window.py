"""A window that shows the frames, where there is a display."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.errors import MissingDependency
from relo_edge.geometry import Box, read_box
from relo_edge.host.opencv import cv2

if TYPE_CHECKING:
    from relo_edge.video.sources.frames import Frame

__all__ = ["Window", "check_display", "select_boxes"]

MAX_WINDOW = (1600, 900)
"""Larger frames are scaled down while boxes are drawn on them."""

_QUIT_KEYS = {ord("q"), 27}

_PROBE = (
    "from relo_edge.host.opencv import cv2; cv2.namedWindow('relo-edge'); cv2.destroyAllWindows()"
)


def check_display(fix: str = "leave out --show and use --save out.mp4") -> None:
    """Raise early where no window can open.

    Qt aborts the process then, and the recording with it: so a child process tries first.
    """
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    if probe.returncode:
        headless = b"not implemented" in probe.stderr
        raise MissingDependency(
            "no window can be shown",
            found="an OpenCV built without windows" if headless else "no display that answers",
            fix=fix,
        )


def select_boxes(frame: Frame, title: str) -> list[Box]:
    """Boxes drawn with the mouse: Enter after each, Esc after the last."""
    check_display("without a display, give --init X,Y,W,H or --init-from FILE")
    rows, columns = frame.shape[:2]
    scale = min(1.0, MAX_WINDOW[0] / columns, MAX_WINDOW[1] / rows)
    shown = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # Newer releases can keep their notice off stdout, which is for results.
    silent = {"printNotice": False} if "printNotice" in str(cv2.selectROIs.__doc__) else {}
    try:
        drawn = cv2.selectROIs(title, shown, showCrosshair=False, **silent)
    finally:
        cv2.destroyAllWindows()
    boxes = np.array(drawn, np.float64).reshape(-1, 4) / scale
    return [read_box(box) for box in boxes if box[2] > 0 < box[3]]


class Window:
    """Shows frames until the user presses q or Esc, or closes it."""

    def __init__(self, title: str) -> None:
        check_display()
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, frame: Frame) -> bool:
        """Show a frame; False once the user ends it."""
        cv2.imshow(self._title, frame)
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        return key not in _QUIT_KEYS and not closed

    def close(self) -> None:
        """Close the window; closing twice is fine."""
        cv2.destroyAllWindows()
