"""The loop behind `track`: frames in, boxes and annotated video out, Ctrl-C included."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from relo_edge.errors import InputError
from relo_edge.host.progress import show_progress
from relo_edge.host.signals import catch_interrupt
from relo_edge.labels.rows import LabelledClip
from relo_edge.tracker import SearchView, Track
from relo_edge.tracking.outputs import Outputs, Sinks, Tracks
from relo_edge.tracking.targets import GIVEN_SCORE, TargetStart, check_starts, report_missed
from relo_edge.video.feed import Feed, FeedFrame
from relo_edge.video.sources.frames import Frame

if TYPE_CHECKING:
    from relo_edge.finder.find_again import FindAgain
    from relo_edge.geometry import Box
    from relo_edge.streams.metrics import SourceMeter

__all__ = ["FeedLoop", "TargetTracker", "TrackSummary", "track_feed"]


class Named(Protocol):
    """What a tracker runs on: a runtime, or whatever a peer has in its place."""

    @property
    def name(self) -> str:
        """As `track --json` has it."""

    @property
    def precision(self) -> str:
        """Of the weights."""

    @property
    def device(self) -> str:
        """Where it runs."""


class TargetTracker(Protocol):
    """What the loop asks of a tracker: `MultiTracker`, or one that is no bundle."""

    views: dict[int, SearchView]

    @property
    def runtime(self) -> Named:
        """What it runs on."""

    def add(self, frame: Frame, box: Box) -> int:
        """Start a target; the number returned names it."""

    def remove(self, target: int) -> None:
        """Stop following it."""

    def update(self, frame: Frame) -> dict[int, Track]:
        """Where every target is in the next frame."""


@dataclass(frozen=True)
class TrackSummary:
    """The result of a run; rates and means leave out start frames, and are None without others.

    Attributes:
        frames: frames read.
        targets: targets started.
        dropped: frames of a camera that came too fast to be tracked.
        fps: frames per second of the whole loop: reading, tracking, drawing and writing.
        tracker_fps: frames per second of the tracker alone.
        mean_confidence: over all targets and frames.
        lost_frames: frames in which a target was lost, over all targets.
        interrupted: whether Ctrl-C or SIGTERM ended the run.
        outputs: the files written.
        runtime: the runtime's name, and beside it its precision and device.
        bundle: the bundle that was asked for; None for a checkpoint alone.
    """

    frames: int
    targets: int
    dropped: int
    fps: float | None
    tracker_fps: float | None
    mean_confidence: float | None
    lost_frames: int
    interrupted: bool
    outputs: tuple[Path, ...]
    runtime: str
    precision: str
    device: str
    bundle: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**vars(self), "outputs": [str(path) for path in self.outputs]}

    def describe(self) -> str:
        """The same for a reader."""
        parts = [f"{'interrupted after ' if self.interrupted else ''}{self.frames} frames"]
        if self.dropped:
            parts.append(f"{self.dropped} dropped")
        if self.targets > 1:
            parts.append(f"{self.targets} targets")
        if self.fps and self.tracker_fps:
            parts.append(f"{self.fps:.1f} FPS (tracker alone {self.tracker_fps:.1f})")
            if self.mean_confidence is not None and not math.isnan(self.mean_confidence):
                parts.append(f"mean confidence {self.mean_confidence:.2f}")
            elif not self.lost_frames:
                parts.append("this tracker does not tell its confidence")
            parts.append(f"lost in {self.lost_frames} frames")
        return "\n".join([", ".join(parts), *(f"wrote {path}" for path in self.outputs)])


@dataclass
class _Statistics:
    """Sums over the frames of a run."""

    frames: int = 0
    updates: int = 0
    tracks: int = 0
    targets: int = 0
    lost: int = 0
    confidence: float = 0.0
    tracker_seconds: float = 0.0
    loop_seconds: float = 0.0

    def count(self, tracks: Tracks, seconds: float) -> None:
        self.updates += 1
        self.tracks += len(tracks)
        self.lost += sum(track.lost for track in tracks.values())
        self.confidence += sum(track.confidence for track in tracks.values())
        self.tracker_seconds += seconds

    @property
    def tracker_fps(self) -> float | None:
        return self.updates / self.tracker_seconds if self.updates else None

    def summarize(
        self, dropped: int, interrupted: bool, outputs: tuple[Path, ...], runtime: Named
    ) -> TrackSummary:
        return TrackSummary(
            frames=self.frames,
            targets=self.targets,
            dropped=dropped,
            fps=self.updates / self.loop_seconds if self.updates else None,
            tracker_fps=self.tracker_fps,
            mean_confidence=self.confidence / self.tracks if self.tracks else None,
            lost_frames=self.lost,
            interrupted=interrupted,
            outputs=outputs,
            runtime=runtime.name,
            precision=runtime.precision,
            device=runtime.device,
        )


class ActiveTargets:
    """The targets by name, started and ended at their frames, or by another thread meanwhile."""

    def __init__(
        self,
        tracker: TargetTracker,
        starts: Sequence[TargetStart],
        statistics: _Statistics,
        again: FindAgain | None,
    ) -> None:
        self._tracker, self._statistics, self._again = tracker, statistics, again
        self._waiting = list(starts)
        self._started: dict[int, TargetStart] = {}
        self._lock = threading.Lock()

    def step(self, frame: FeedFrame, stop: threading.Event | None = None) -> Tracks:
        """All tracks of this frame; targets whose time it is are ended and started first."""
        with self._lock:
            for target, start in list(self._started.items()):
                if start.until is not None and frame.number >= start.until:
                    self._drop(target)
            tracks = self._update(frame) if self._started else {}
            if self._again and stop:
                self._find_lost(self._again, frame, tracks, stop)
            while self._waiting and frame.number >= self._waiting[0].frame:
                start = self._waiting.pop(0)
                self._begin(frame.image, start)
                tracks[start.name] = Track(start.box, GIVEN_SCORE, GIVEN_SCORE, lost=False)
            self._statistics.frames += 1
            return tracks

    def add(self, image: Frame, start: TargetStart) -> None:
        """Start a target in this image, which may be an older one.

        Raises:
            InputError: there is one of that name, or a box or image that cannot be tracked.
        """
        with self._lock:
            if any(start.name == other.name for other in [*self._started.values(), *self._waiting]):
                raise InputError(
                    f"two targets are called {start.name!r}", fix="give each a name of its own"
                )
            self._begin(image, start)

    def remove(self, name: int | str) -> None:
        """Stop following a target.

        Raises:
            InputError: there is none of that name.
        """
        with self._lock:
            by_name = {start.name: target for target, start in self._started.items()}
            if name not in by_name:
                raise InputError("target", found=repr(name), expected=f"one of {list(by_name)}")
            self._drop(by_name[name])

    @property
    def waiting(self) -> list[TargetStart]:
        """Those whose start frames have not come."""
        with self._lock:
            return list(self._waiting)

    def _begin(self, image: Frame, start: TargetStart) -> None:
        self._started[self._tracker.add(image, start.box)] = start
        self._statistics.targets += 1

    def _drop(self, target: int) -> None:
        self._tracker.remove(target)
        del self._started[target]

    def _find_lost(
        self,
        again: FindAgain,
        frame: FeedFrame,
        tracks: dict[int | str, Track],
        stop: threading.Event,
    ) -> None:
        """Start a lost target again where the finder sees it."""
        by_name = {start.name: target for target, start in self._started.items()}
        found = again.seek([name for name in by_name if tracks[name].lost], frame, stop)
        if found is None:
            return
        name, shown, box = found
        start = self._started[by_name[name]]
        self._drop(by_name[name])
        self._started[self._tracker.add(shown.image, box)] = start
        if shown is frame:
            tracks[name] = Track(box, GIVEN_SCORE, GIVEN_SCORE, lost=False)

    def _update(self, frame: FeedFrame) -> dict[int | str, Track]:
        begin = time.perf_counter()
        updated = self._tracker.update(frame.image)
        tracks = {self._started[target].name: track for target, track in updated.items()}
        self._statistics.count(tracks, time.perf_counter() - begin)
        return tracks


class FeedLoop:
    """One source's frames through its tracker into its outputs; it listens to no signal.

    Attributes:
        targets: what is followed.
    """

    def __init__(
        self,
        feed: Feed,
        tracker: TargetTracker,
        starts: Sequence[TargetStart],
        sinks: Sinks | None = None,
        *,
        find_again: FindAgain | None = None,
        on_tracks: Callable[[FeedFrame, Tracks], object] | None = None,
        meter: SourceMeter | None = None,
    ) -> None:
        self._meter = meter
        if meter:
            meter.watch(feed.reader)
        self._feed, self._tracker, self._sinks = feed, tracker, sinks or Sinks()
        self._on_tracks = on_tracks
        self._statistics = _Statistics()
        self._paths: tuple[Path, ...] = ()
        self._tracks: Tracks = {}
        self._last: int | None = None
        """The last frame's number, once the source has come to its own end."""
        self.targets = ActiveTargets(tracker, starts, self._statistics, find_again)

    def begin(self) -> None:
        """Wait for the first frame, and start the targets that begin in it."""
        self._tracks = self.targets.step(self._feed.peek())

    def open_outputs(self) -> Outputs:
        """The outputs, once the size of the frames is known; `run` writes to them."""
        height, width = self._feed.peek().image.shape[:2]
        reader = self._feed.reader
        outputs = Outputs(LabelledClip(reader.name, (width, height), reader.fps), self._sinks)
        self._paths = outputs.paths
        return outputs

    def run(self, outputs: Outputs, stop: threading.Event, advance: Callable[[], object]) -> None:
        """From the first frame to the last, or until `stop` is set."""
        begin, tracks = time.perf_counter(), self._tracks
        tracked = time.monotonic()
        frame, wanted, last = self._feed.read(), True, None
        try:
            while frame is not None:
                last = frame.number
                views = list(self._tracker.views.values()) if self._sinks.heatmap else []
                wanted = outputs.write(frame, tracks, views, self._statistics.tracker_fps)
                if self._on_tracks:
                    self._on_tracks(frame, tracks)
                if self._meter:
                    self._meter.count_frame(tracks)
                    self._meter.add("write", time.monotonic() - tracked)
                advance()
                frame = self._feed.read(stop) if wanted else None
                begun = time.monotonic()
                tracks = self.targets.step(frame, stop) if frame else {}
                tracked = time.monotonic()
                if self._meter and frame:
                    self._meter.add("wait", begun - frame.captured)
                    self._meter.add_tracking(tracked - begun)
            self._last = last if wanted and not stop.is_set() else None
        finally:
            self._statistics.loop_seconds = time.perf_counter() - begin

    def report_missed(self) -> None:
        """Name the targets that were never started, unless the run was ended early.

        Raises:
            SourceError: none was started.
        """
        if self._last is not None:
            started, name = self._statistics.targets, self._feed.reader.name
            report_missed(self.targets.waiting, name, self._last, started)

    def summarize(self, interrupted: bool) -> TrackSummary:
        """What was done so far."""
        dropped, runtime = self._feed.dropped, self._tracker.runtime
        return self._statistics.summarize(dropped, interrupted, self._paths, runtime)


def track_feed(
    feed: Feed,
    tracker: TargetTracker,
    starts: Sequence[TargetStart],
    sinks: Sinks | None = None,
    *,
    find_again: FindAgain | None = None,
    on_tracks: Callable[[FeedFrame, Tracks], object] | None = None,
    meter: SourceMeter | None = None,
) -> TrackSummary:
    """Track targets from the feed's first frame to its last, or to Ctrl-C.

    Whatever ends the run, its outputs are complete up to the last frame.

    Args:
        feed: the frames.
        tracker: a tracker with a free slot for each target.
        starts: the targets and their start boxes.
        sinks: where the results go.
        find_again: who is asked for lost targets.
        on_tracks: called with each frame and its tracks, start boxes included.
        meter: what counts the frames, for Prometheus.

    Returns:
        Counts, rates and the files written.

    Raises:
        InputError: targets or outputs that cannot be.
        SourceError: the source broke, no target's start came, or an output cannot be written.
    """
    checked, reader = check_starts(starts, feed.start), feed.reader
    loop = FeedLoop(
        feed, tracker, checked, sinks, find_again=find_again, on_tracks=on_tracks, meter=meter
    )
    left = reader.frame_count - feed.start if reader.frame_count else None
    loop.begin()
    with (
        catch_interrupt() as pressed,
        loop.open_outputs() as outputs,
        show_progress(f"tracking {reader.name}", left) as advance,
    ):
        loop.run(outputs, pressed, advance)
    loop.report_missed()
    return loop.summarize(pressed.is_set())
