"""The targets that a page sees: numbered, named, and added and removed one by one."""

from __future__ import annotations

from dataclasses import dataclass, field

from relo_edge.geometry import Box
from relo_edge.lost import Recovery
from relo_edge.measures.timed_runtime import TimedRuntime
from relo_edge.runtime import Runtime
from relo_edge.serve.snapshots import NamedTrack
from relo_edge.tracker import MultiTracker, Track
from relo_edge.tracking.targets import GIVEN
from relo_edge.video.sources.frames import Frame

__all__ = ["Roster", "build_roster"]


@dataclass
class Roster:
    """Names around a tracker; the number that a page knows a target by is the tracker's."""

    runtime: TimedRuntime
    tracker: MultiTracker
    names: dict[int, str] = field(default_factory=dict)
    tracks: dict[int, Track] = field(default_factory=dict)

    def add(self, image: Frame, box: Box, name: int | str = 0) -> None:
        """Start a target at its box in this image; one that was given no word gets a number."""
        target = self.tracker.add(image, box)
        self.names[target] = name if isinstance(name, str) else f"target {target + 1}"
        self.tracks[target] = Track(box, GIVEN, GIVEN, lost=False)

    def remove(self, target: int) -> None:
        """Stop following a target."""
        self.tracker.remove(target)
        del self.names[target], self.tracks[target]

    def clear(self) -> None:
        """Stop following all of them."""
        for target in list(self.names):
            self.remove(target)

    def update(self, image: Frame) -> None:
        """Follow all of them into the next image."""
        self.runtime.steps.clear()
        self.tracks = self.tracker.update(image)

    @property
    def network_seconds(self) -> float:
        """What the network took of the last update."""
        return sum(end - start for start, end in self.runtime.steps)

    def list_tracks(self) -> tuple[NamedTrack, ...]:
        """Where each is."""
        return tuple(NamedTrack(n, self.names[n], track) for n, track in self.tracks.items())


def build_roster(
    runtime: Runtime, dataset: str = "default", recovery: Recovery | None = None
) -> Roster:
    """An empty roster on a runtime, with a dataset's tracker settings."""
    timed, protocol = TimedRuntime(runtime), runtime.variant.protocol(dataset)
    return Roster(timed, MultiTracker(timed, protocol, color="bgr", recovery=recovery))
