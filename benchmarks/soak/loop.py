"""A soak of the loop behind `track`: targets come and go while one recording follows the other."""

from __future__ import annotations

import time
from contextlib import closing

from relo_edge.benchmarks.soak.log import TARGETS, Diary, MortalCamera
from relo_edge.box_files import BoxRecorder, record_boxes
from relo_edge.runtime import Runtime
from relo_edge.tracker import MultiTracker
from relo_edge.video.feed import Feed, FeedFrame
from relo_edge.video.live import ReconnectPolicy, read_live
from relo_edge.video.recorder import VideoRecorder

__all__ = ["soak_loop"]

SEGMENT_SECONDS = 20.0
"""One recording after the other."""


def soak_loop(runtime: Runtime, diary: Diary) -> None:
    """Follow the camera until the time is over."""
    tracker = MultiTracker(runtime, color="bgr")
    followed: list[int] = []
    last = -1
    with (
        read_live(
            MortalCamera(diary.seconds), reconnect=ReconnectPolicy(first_delay=0.1)
        ) as reader,
        closing(_Recordings(diary, reader.fps)) as recordings,
    ):
        feed = Feed(reader)
        while diary.goes_on and (frame := feed.read()) is not None:
            diary.order_broken += frame.number <= last
            diary.frames, last = diary.frames + 1, frame.number
            _change_targets(diary, tracker, followed, frame)
            recordings.write(frame, tracker)
            diary.note_memory()
        diary.reconnects, diary.more["dropped"] = reader.reconnects, feed.dropped


def _change_targets(
    diary: Diary, tracker: MultiTracker, followed: list[int], frame: FeedFrame
) -> None:
    height, width = frame.image.shape[:2]
    wanted = not followed or diary.dice.random() < 0.2
    if wanted and len(followed) < min(TARGETS, tracker.runtime.batch):
        followed.append(tracker.add(frame.image, diary.draw_box(width, height)))
        diary.added += 1
    elif followed and diary.dice.random() < 0.02:
        tracker.remove(followed.pop(diary.dice.randrange(len(followed))))
        diary.removed += 1


class _Recordings:
    """Video and boxes, segment after segment; each is read again and thrown away."""

    def __init__(self, diary: Diary, fps: float) -> None:
        self._diary, self._fps = diary, fps
        self._begun = 0.0
        self._open: tuple[VideoRecorder, BoxRecorder] | None = None
        self._numbers: list[int] = []

    def write(self, frame: FeedFrame, tracker: MultiTracker) -> None:
        """Track and record the frame."""
        if self._open is None or time.monotonic() - self._begun > SEGMENT_SECONDS:
            self.close()
            self._begun = time.monotonic()
            folder = self._diary.folder
            video = VideoRecorder(folder / "soak.mp4", self._fps)
            self._open = video, record_boxes(folder / "soak.csv")
        video, boxes = self._open
        video.write(frame.image, frame.number)
        for target, track in tracker.update(frame.image).items():
            boxes.write(frame.number, target, track, frame.time)
        self._numbers.append(frame.number)

    def close(self) -> None:
        """End the segment and see whether it plays from end to end."""
        if self._open is None:
            return
        video, boxes = self._open
        self._open = None
        video.close()
        boxes.close()
        self._diary.note_recording(video.path, boxes.path, self._numbers)
        self._numbers.clear()
        video.path.unlink()
        boxes.path.unlink()
