"""A soak of the live page: a viewer that never rests, recordings that start and stop."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from statistics import median

from relo_edge.benchmarks.soak.log import TARGETS, FailingCamera, Soak, SoakLog
from relo_edge.benchmarks.soak.viewer import SoakViewer, stamp_frame
from relo_edge.runtime import Runtime
from relo_edge.serve.named_targets import build_targets
from relo_edge.serve.recordings import Recordings
from relo_edge.serve.server import PageServer
from relo_edge.serve.worker import TrackingWorker
from relo_edge.video.live import ReconnectPolicy, read_live
from relo_edge.video.sources.frames import Frame, FrameSource

__all__ = ["RECORDINGS", "PageSoak", "StampedCamera"]

RECORDINGS = 10
"""One in each tenth of the time, so that both tenths whose memory is compared have one; two before
that: what a first encoder allocates is no growth."""

SIZE = (640, 480)
LEAVING = 0.02
"""How often the viewer leaves and comes back."""


class PageSoak(Soak):
    """Serves the page to one viewer, as `serve` does; the runtime is closed with it."""

    add_rate, remove_rate = 1.0, 0.5

    def __init__(self, runtime: Runtime, log: SoakLog) -> None:
        super().__init__(log)
        camera = StampedCamera(FailingCamera(log.seconds))
        policy = ReconnectPolicy(first_delay=0.1, max_delay=1)
        self._recordings = Recordings(log.folder)
        self._tracking = TrackingWorker(
            lambda: read_live(camera, reconnect=policy),
            lambda: build_targets(runtime),
            self._recordings,
        )
        self._stack = ExitStack()
        self._server = self._stack.enter_context(PageServer(self._tracking, "127.0.0.1", 0))
        self._viewer = SoakViewer(self._server.port)
        count = 2 * RECORDINGS
        self._changes = [log.seconds * (n + 0.5) / count for n in range(count)]
        self._pictures = self._visits = 0
        self._ages: list[float] = []

    def advance(self) -> bool:
        """Watch for a while."""
        self._viewer.watch(self.log.rng.uniform(0.1, min(1.0, self.log.seconds / 20)))
        return True

    def use(self) -> None:
        """Start or stop a recording when it is time; now and then leave and come back."""
        if self._changes and self.log.elapsed > self._changes[0]:
            self._changes.pop(0)
            recording = self._viewer.state["recording"]
            self._viewer.ask("stop-recording" if recording else "record")
        if self.log.rng.random() < LEAVING:
            self._leave()
            self._viewer = SoakViewer(self._server.port)

    def list_targets(self) -> list[int]:
        """Those that the page shows."""
        return [entry["target"] for entry in self._viewer.state.get("targets", ())]

    def has_room(self) -> bool:
        """Whether there is a picture to point at and a target left to add."""
        return len(self.list_targets()) < TARGETS and self._viewer.picture is not None

    def add_target(self) -> bool:
        """Draw a box in the picture shown."""
        box = list(self.log.draw_box(*SIZE))
        answer = self._viewer.ask("add", picture=self._viewer.picture, box=box)
        return bool(answer["type"] == "done")

    def remove_target(self, target: int) -> bool:
        """Remove it by its name."""
        return bool(self._viewer.ask("remove", target=target)["type"] == "done")

    def close(self) -> None:
        """Leave, stop the server, and check what was recorded."""
        with self._stack:
            self._leave()
            self.log.reconnects = self._tracking.reconnects
        self.log.frames = self._tracking.frames
        page_ms = round(median(self._ages), 1) if self._ages else None
        visits = {"pictures": self._pictures, "visits": self._visits, "page_ms": page_ms}
        self.log.more |= visits
        for video in self._recordings.made:
            if video.suffix == ".mp4":
                self.log.check_recording(video, video.with_suffix(".csv"))

    def _leave(self) -> None:
        self._visits += 1
        self._pictures += self._viewer.pictures
        self.log.order_broken += self._viewer.order_broken
        self._ages += self._viewer.ages
        self._viewer.close()


class StampedCamera:
    """A camera with each frame's number written into it."""

    def __init__(self, camera: Callable[[], FrameSource]) -> None:
        self._camera, self._number = camera, 0

    def __call__(self) -> FrameSource:
        """Open it, or reopen it."""
        source = self._camera()
        source.frames = self._stamp(source.frames)
        return source

    def _stamp(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        for frame in frames:
            self._number += 1
            yield stamp_frame(frame, self._number)
