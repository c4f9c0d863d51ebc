"""A window to watch a track in, where there is a screen."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from relo_edge.errors import MissingDependency
from relo_edge.opencv import cv2

if TYPE_CHECKING:
    from relo_edge.video import Frame

__all__ = ["Window", "check_display"]

_QUIT_KEYS = {ord("q"), 27}

_PROBE = "from relo_edge.opencv import cv2; cv2.namedWindow('relo-edge'); cv2.destroyAllWindows()"


def check_display() -> None:
    """Refuse early where no window can open.

    Qt does not fail then, it aborts the process, and the recording with it: so a child tries.
    """
    probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, check=False)
    if probe.returncode:
        headless = b"not implemented" in probe.stderr
        raise MissingDependency(
            "no window can be shown",
            found="an OpenCV built without windows" if headless else "no display that answers",
            fix="leave --show out and use --save out.mp4",
        )


class Window:
    """Shows frames until its user presses q or Esc, or closes it."""

    def __init__(self, title: str) -> None:
        check_display()
        self._title = title
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, frame: Frame) -> bool:
        """Show a frame; False when the user wants no more."""
        cv2.imshow(self._title, frame)
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        return key not in _QUIT_KEYS and not closed

    def close(self) -> None:
        """Take the window away; closing twice is fine."""
        cv2.destroyAllWindows()
