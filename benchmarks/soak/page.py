"""A soak of the live page: a viewer who is never content, recordings that start and stop."""

from __future__ import annotations

from collections.abc import Generator
from statistics import median

from relo_edge.benchmarks.soak.log import TARGETS, Diary, MortalCamera
from relo_edge.benchmarks.soak.viewer import SoakViewer, stamp_frame
from relo_edge.runtime import Runtime
from relo_edge.serve.named_targets import build_targets
from relo_edge.serve.recordings import Recordings
from relo_edge.serve.server import PageServer
from relo_edge.serve.worker import TrackingWorker
from relo_edge.video.live import ReconnectPolicy, read_live
from relo_edge.video.sources.frames import Frame, FrameSource

__all__ = ["soak_page"]

RECORDINGS = 8
"""Two of them before memory is first looked at: what a first encoder allocates is no growth."""

SIZE = (640, 480)


def soak_page(runtime: Runtime, diary: Diary) -> None:
    """Serve until the time is over; the runtime is closed then."""
    camera, recordings = _StampedCamera(diary.seconds), Recordings(diary.folder)
    policy = ReconnectPolicy(first_delay=0.1, max_delay=1)
    tracking = TrackingWorker(
        lambda: read_live(camera, reconnect=policy), lambda: build_targets(runtime), recordings
    )
    with PageServer(tracking, "127.0.0.1", 0) as server:
        _Visits(server.port, diary).carry_out()
        diary.reconnects = tracking.reconnects
    diary.frames = tracking.frames
    for video in recordings.made:
        if video.suffix == ".mp4":
            diary.note_recording(video, video.with_suffix(".csv"))


class _StampedCamera:
    """The camera that dies, its frames telling their number."""

    def __init__(self, seconds: float) -> None:
        self._camera, self._number = MortalCamera(seconds), 0

    def __call__(self) -> FrameSource:
        source = self._camera()
        source.frames = self._stamp(source.frames)
        return source

    def _stamp(self, frames: Generator[Frame, None, None]) -> Generator[Frame, None, None]:
        for frame in frames:
            self._number += 1
            yield stamp_frame(frame, self._number)


class _Visits:
    """The viewer's day."""

    def __init__(self, port: int, diary: Diary) -> None:
        self._port, self._diary = port, diary
        self._turns = [diary.seconds * (n + 0.5) / (2 * RECORDINGS) for n in range(2 * RECORDINGS)]
        self._pictures = self._visits = 0
        self._ages: list[float] = []

    def carry_out(self) -> None:
        """Add, remove, record, leave and come back, until the time is over."""
        diary, viewer = self._diary, SoakViewer(self._port)
        while diary.goes_on:
            viewer.watch(diary.dice.uniform(0.1, min(1.0, diary.seconds / 20)))
            self._change_targets(viewer)
            if self._turns and diary.elapsed > self._turns[0]:
                self._turns.pop(0)
                viewer.ask("stop-recording" if viewer.state["recording"] else "record")
            if diary.dice.random() < 0.02:
                self._leave(viewer)
                viewer = SoakViewer(self._port)
            diary.note_memory()
        self._leave(viewer)
        page_ms = round(median(self._ages), 1) if self._ages else None
        diary.more |= {"pictures": self._pictures, "visits": self._visits, "page_ms": page_ms}

    def _change_targets(self, viewer: SoakViewer) -> None:
        diary = self._diary
        targets = [entry["target"] for entry in viewer.state.get("targets", ())]
        if len(targets) < TARGETS and viewer.picture is not None:
            box = list(diary.draw_box(*SIZE))
            answer = viewer.ask("add", picture=viewer.picture, box=box)
            diary.added += answer["type"] == "done"
        elif targets and diary.dice.random() < 0.3:
            answer = viewer.ask("remove", target=diary.dice.choice(targets))
            diary.removed += answer["type"] == "done"

    def _leave(self, viewer: SoakViewer) -> None:
        self._visits += 1
        self._pictures += viewer.pictures
        self._diary.order_broken += viewer.order_broken
        self._ages += viewer.ages
        viewer.close()
