"""The tracker over a server: the same interface, and a word on what was started again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from relo_edge.lost import LostRule, Recovery
from relo_edge.remote.remote_runtime import RemoteRuntime
from relo_edge.runtime import ClosedOnExit
from relo_edge.spec import TrackerProtocol
from relo_edge.tracker import Track, Tracker

__all__ = ["RemoteTrack", "RemoteTracker"]


@dataclass(frozen=True)
class RemoteTrack(Track):
    """A track, and whether its stream had to be started again for it.

    Attributes:
        restarted: the server had lost the stream's temporal state; this frame was searched around
            the last box with the same templates, and without history.
    """

    restarted: bool = False


class RemoteTracker(Tracker, ClosedOnExit):
    """One target, followed by a network elsewhere; a context manager that ends its stream."""

    def __init__(
        self,
        runtime: RemoteRuntime,
        protocol: TrackerProtocol | None = None,
        *,
        color: Literal["bgr", "rgb"],
        lost_rule: LostRule | None = None,
        recovery: Recovery | None = None,
    ) -> None:
        super().__init__(
            runtime,
            protocol or runtime.protocol,
            color=color,
            lost_rule=lost_rule,
            recovery=recovery,
        )
        self._remote = runtime
        self._reported = runtime.restarts(0)

    @property
    def restarts(self) -> int:
        """How often the stream was started again because its state was lost."""
        return self._remote.restarts(0)

    def update(self, frame: NDArray[np.uint8]) -> RemoteTrack:
        """Track the target into the next frame; as `Tracker.update`, over the network.

        Args:
            frame: uint8 [height, width, 3], of the size that the target was started in.

        Returns:
            Where the target is, and whether its stream was started again for this frame.

        Raises:
            InputError: no target, or a frame of another size.
            RuntimeUnavailable: the server does not answer; the same frame can be tried again.
        """
        track = super().update(frame)
        before, self._reported = self._reported, self._remote.restarts(0)
        restarted = self._reported > before
        return RemoteTrack(track.box, track.score, track.confidence, track.lost, restarted)

    def close(self) -> None:
        """End the stream on the server and drop the connection; closing twice is fine."""
        self._remote.close()
