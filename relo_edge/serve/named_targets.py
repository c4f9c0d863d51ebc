"""The targets that a page sees: numbered, named, and added and removed one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

from relo_edge.geometry import Box
from relo_edge.lost import Recovery
from relo_edge.measures.timed_runtime import TimedRuntime
from relo_edge.runtime import Runtime
from relo_edge.serve.snapshots import NamedTrack
from relo_edge.streams.sharing import RuntimeShare, StreamTracker
from relo_edge.tracker import MultiTracker, Track
from relo_edge.tracking.targets import GIVEN_SCORE
from relo_edge.video.sources.frames import Frame

__all__ = ["NamedTargets", "build_targets"]


@dataclass
class NamedTargets:
    """A tracker with names; a page knows a target by the tracker's number for it."""

    runtime: TimedRuntime
    tracker: MultiTracker
    names: dict[int, str] = field(default_factory=dict)
    tracks: dict[int, Track] = field(default_factory=dict)

    def add(self, image: Frame, box: Box, name: int | str = 0) -> None:
        """Start a target at its box in this image; one without a name is called by its number."""
        target = self.tracker.add(image, box)
        self.names[target] = name if isinstance(name, str) else f"target {target + 1}"
        self.tracks[target] = Track(box, GIVEN_SCORE, GIVEN_SCORE, lost=False)

    def remove(self, target: int) -> None:
        """Stop tracking a target."""
        self.tracker.remove(target)
        del self.names[target], self.tracks[target]

    def clear(self) -> None:
        """Stop tracking all targets."""
        for target in list(self.names):
            self.remove(target)

    def update(self, image: Frame) -> None:
        """Track all targets into the next image."""
        self.runtime.steps.clear()
        self.tracks = self.tracker.update(image)

    @property
    def network_seconds(self) -> float:
        """The network's share of the last update."""
        return sum(end - start for start, end in self.runtime.steps)

    def list_tracks(self) -> tuple[NamedTrack, ...]:
        """Every target's last track."""
        return tuple(NamedTrack(n, self.names[n], track) for n, track in self.tracks.items())


def build_targets(
    runtime: Runtime, protocol: str = "default", recovery: Recovery | None = None
) -> NamedTargets:
    """No targets yet, on a runtime, with the tracker settings of a dataset."""
    timed, settings = TimedRuntime(runtime), runtime.variant.protocol(protocol)
    follow = StreamTracker if isinstance(runtime, RuntimeShare) else MultiTracker
    return NamedTargets(timed, follow(timed, settings, color="bgr", recovery=recovery))
