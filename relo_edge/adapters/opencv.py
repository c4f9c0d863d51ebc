"""OpenCV's tracker interface: a drop-in for `cv2.TrackerCSRT_create()`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relo_edge.host.opencv import cv2
from relo_edge.tracker import Tracker

if TYPE_CHECKING:
    from relo_edge.geometry import Box
    from relo_edge.runtime import Runtime
    from relo_edge.spec import TrackerProtocol

__all__ = ["OpenCvTracker"]

IntegerBox = tuple[int, int, int, int]


class OpenCvTracker:
    """A tracker with OpenCV's two methods and its integer boxes.

    Args:
        runtime: an open runtime, of this tracker's own.
        protocol: the tracker settings; the variant's if None.
    """

    def __init__(self, runtime: Runtime, protocol: TrackerProtocol | None = None) -> None:
        self._tracker = Tracker(runtime, protocol, color="bgr")

    def init(self, image: NDArray[np.uint8], box: Box) -> None:
        """Start on the box (x, y, w, h in pixels) in a BGR or grey image.

        Raises:
            InputError: an image or a box that cannot be.
        """
        self._tracker.init(_to_bgr(image), box)

    def update(self, image: NDArray[np.uint8]) -> tuple[bool, IntegerBox]:
        """Find the target in the next image.

        Returns:
            False where the target counts as lost, as `Track.lost` does; and the box, rounded.

        Raises:
            InputError: `init` was not called, or the image has another size.
        """
        track = self._tracker.update(_to_bgr(image))
        x, y, width, height = (round(value) for value in track.box)
        return not track.lost, (x, y, width, height)


def _to_bgr(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OpenCV's trackers take grey images too; what is no image is left to the tracker to refuse."""
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 2 and image.size:
        return cv2.cvtColor(image, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False)
    return image
