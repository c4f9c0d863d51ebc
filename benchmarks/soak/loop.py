"""A soak of the loop behind `track`: targets come and go while one recording follows the other."""

from __future__ import annotations

import time
from contextlib import ExitStack

from relo_edge.benchmarks.soak.log import TARGETS, FailingCamera, Soak, SoakLog
from relo_edge.box_files import BoxRecorder, record_boxes
from relo_edge.runtime import Runtime
from relo_edge.tracker import MultiTracker
from relo_edge.video.feed import Feed, FeedFrame
from relo_edge.video.live import ReconnectPolicy, read_live
from relo_edge.video.recorder import VideoRecorder

__all__ = ["LoopSoak"]

SEGMENT_SECONDS = 20.0
"""The length of one recording."""


class LoopSoak(Soak):
    """Follows the camera, as `track` does."""

    add_rate, remove_rate = 0.2, 0.02

    def __init__(self, runtime: Runtime, log: SoakLog) -> None:
        super().__init__(log)
        self._tracker = MultiTracker(runtime, color="bgr")
        self._targets: list[int] = []
        self._frame: FeedFrame | None = None
        self._stack = ExitStack()
        policy = ReconnectPolicy(first_delay=0.1)
        self._reader = self._stack.enter_context(
            read_live(FailingCamera(log.seconds), reconnect=policy)
        )
        self._feed = Feed(self._reader)
        self._recordings = _Recordings(log, self._reader.fps)

    def advance(self) -> bool:
        """The next frame."""
        last = -1 if self._frame is None else self._frame.number
        self._frame = self._feed.read()
        if self._frame is None:
            return False
        self.log.order_broken += self._frame.number <= last
        self.log.frames += 1
        return True

    def use(self) -> None:
        """Track and record the frame."""
        assert self._frame is not None
        self._recordings.write(self._frame, self._tracker)

    def list_targets(self) -> list[int]:
        """Those that the tracker follows."""
        return self._targets

    def has_room(self) -> bool:
        """Whether the tracker takes another."""
        return len(self._targets) < min(TARGETS, self._tracker.runtime.batch)

    def add_target(self) -> bool:
        """Add one in this frame."""
        assert self._frame is not None
        height, width = self._frame.image.shape[:2]
        box = self.log.draw_box(width, height)
        self._targets.append(self._tracker.add(self._frame.image, box))
        return True

    def remove_target(self, target: int) -> bool:
        """Stop following it."""
        self._targets.remove(target)
        self._tracker.remove(target)
        return True

    def close(self) -> None:
        """End the last recording and the camera."""
        with self._stack:
            self._recordings.close()
            self.log.reconnects = self._reader.reconnects
            self.log.more["dropped"] = self._feed.dropped


class _Recordings:
    """Video and boxes, segment after segment; each is read again and deleted."""

    def __init__(self, log: SoakLog, fps: float) -> None:
        self._log, self._fps = log, fps
        self._begun = 0.0
        self._open: tuple[VideoRecorder, BoxRecorder] | None = None
        self._numbers: list[int] = []

    def write(self, frame: FeedFrame, tracker: MultiTracker) -> None:
        """Track and record the frame."""
        if self._open is None or time.monotonic() - self._begun > SEGMENT_SECONDS:
            self.close()
            self._begun = time.monotonic()
            folder = self._log.folder
            video = VideoRecorder(folder / "soak.mp4", self._fps)
            self._open = video, record_boxes(folder / "soak.csv")
        video, boxes = self._open
        video.write(frame.image, frame.number)
        for target, track in tracker.update(frame.image).items():
            boxes.write(frame.number, target, track, frame.time)
        self._numbers.append(frame.number)

    def close(self) -> None:
        """End the segment and check that it plays from end to end."""
        if self._open is None:
            return
        video, boxes = self._open
        self._open = None
        video.close()
        boxes.close()
        self._log.check_recording(video.path, boxes.path, self._numbers)
        self._numbers.clear()
        video.path.unlink()
        boxes.path.unlink()
