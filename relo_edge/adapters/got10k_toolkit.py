"""The GOT-10k toolkit's tracker interface, for its experiments and reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.adapters.packages import import_package
from relo_edge.geometry import read_box
from relo_edge.tracker import Tracker

if TYPE_CHECKING:
    from relo_edge.runtime import Runtime
    from relo_edge.spec import TrackerProtocol

__all__ = ["Got10kTracker"]

_Toolkit = import_package("got10k.trackers", "got10k").Tracker


class Got10kTracker(_Toolkit):  # type: ignore[misc, valid-type]  # it has no types
    """A `got10k.trackers.Tracker`: the toolkit reads the images, this follows the target.

    Args:
        runtime: an open runtime, of this tracker's own.
        name: what the toolkit's results and reports call it.
        protocol: the tracker settings; the variant's if None.
    """

    def __init__(
        self,
        runtime: Runtime,
        name: str = "relo-edge",
        protocol: TrackerProtocol | None = None,
    ) -> None:
        super().__init__(name=name, is_deterministic=True)
        self._tracker = Tracker(runtime, protocol, color="rgb")

    def init(self, image: Any, box: NDArray[np.floating]) -> None:
        """Start on the box (x, y, w, h) in an RGB image of PIL."""
        self._tracker.init(np.asarray(image), read_box(np.asarray(box)))

    def update(self, image: Any) -> NDArray[np.float64]:
        """The target's box in the next image."""
        return np.array(self._tracker.update(np.asarray(image)).box, np.float64)
