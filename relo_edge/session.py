"""The loop behind `track`: frames in, boxes and an annotated video out, Ctrl-C included."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from relo_edge.errors import InputError
from relo_edge.geometry import Box
from relo_edge.interrupt import catch_interrupt
from relo_edge.overlay import draw_rate, draw_track
from relo_edge.progress import show_progress
from relo_edge.recording import VideoRecorder, record_boxes
from relo_edge.tracker import Track, Tracker
from relo_edge.video import Frame, FrameSource
from relo_edge.window import Window

__all__ = ["TrackSummary", "parse_box", "track_source"]

GIVEN = 1.0
"""Score and confidence of the start frame, whose box is given and not tracked."""


@dataclass(frozen=True)
class TrackSummary:
    """How a run went; rates and means leave out the start frame, and are None without another."""

    frames: int
    fps: float | None
    """Frames per second of the whole loop: reading, tracking, drawing and writing."""
    tracker_fps: float | None
    """Frames per second of the tracker alone."""
    mean_confidence: float | None
    lost_frames: int
    interrupted: bool
    outputs: tuple[Path, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**vars(self), "outputs": [str(path) for path in self.outputs]}

    def describe(self) -> str:
        """The same for a reader."""
        parts = [f"{'interrupted after ' if self.interrupted else ''}{self.frames} frames"]
        if self.fps and self.tracker_fps:
            parts.append(f"{self.fps:.1f} FPS (tracker alone {self.tracker_fps:.1f})")
            parts.append(f"mean confidence {self.mean_confidence:.2f}")
            parts.append(f"lost in {self.lost_frames}")
        return "\n".join([", ".join(parts), *(f"wrote {path}" for path in self.outputs)])


@dataclass
class _Tally:
    """What is summed up while tracking."""

    tracked: int = 0
    lost: int = 0
    confidence: float = 0.0
    tracker_seconds: float = 0.0
    loop_seconds: float = 0.0

    def count(self, track: Track, seconds: float) -> None:
        self.tracked += 1
        self.lost += track.lost
        self.confidence += track.confidence
        self.tracker_seconds += seconds

    @property
    def tracker_fps(self) -> float | None:
        return self.tracked / self.tracker_seconds if self.tracker_seconds else None

    def summarize(self, interrupted: bool, outputs: tuple[Path, ...]) -> TrackSummary:
        return TrackSummary(
            frames=self.tracked + 1,
            fps=self.tracked / self.loop_seconds if self.tracked else None,
            tracker_fps=self.tracker_fps,
            mean_confidence=self.confidence / self.tracked if self.tracked else None,
            lost_frames=self.lost,
            interrupted=interrupted,
            outputs=outputs,
        )


class _Closable(Protocol):
    def close(self) -> None: ...


_Closing = TypeVar("_Closing", bound=_Closable)


class _Outputs:
    """The video, the boxes and the window that were asked for, opened and closed together."""

    def __init__(
        self, name: str, fps: float, video: Path | None, boxes: Path | None, show: bool
    ) -> None:
        self._name = name
        with contextlib.ExitStack() as stack:
            self._window = _hold(stack, Window(f"relo-edge: {name}") if show else None)
            self._video = _hold(stack, VideoRecorder(video, fps) if video else None)
            self._boxes = _hold(stack, record_boxes(boxes) if boxes else None)
            self._open = stack.pop_all()

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(recorder.path for recorder in (self._video, self._boxes) if recorder)

    def write(self, index: int, frame: Frame, track: Track, fps: float | None) -> bool:
        """Record a frame; False when the window's user wants no more."""
        if self._boxes:
            self._boxes.write(index, 0, track)
        if not self._video and not self._window:
            return True
        picture = frame.copy()
        draw_track(picture, track, self._name)
        if fps is not None:
            draw_rate(picture, fps)
        if self._video:
            self._video.write(picture)
        return self._window.show(picture) if self._window else True

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def track_source(
    source: FrameSource,
    tracker: Tracker,
    init_box: Box,
    *,
    video_path: Path | None = None,
    boxes_path: Path | None = None,
    show: bool = False,
    on_track: Callable[[Track], object] | None = None,
) -> TrackSummary:
    """Follow the target from the source's first frame to its last, or to Ctrl-C.

    Whatever ends it, what was tracked so far is kept in whole files. `on_track` sees every
    track but the given one.
    """
    first = next(source)
    tracker.init(first, init_box)
    tally = _Tally()
    with (
        catch_interrupt() as pressed,
        _Outputs(source.name, source.fps, video_path, boxes_path, show) as outputs,
        show_progress(f"tracking {source.name}", source.frame_count) as advance,
    ):
        start = time.perf_counter()
        wanted = outputs.write(0, first, Track(init_box, GIVEN, GIVEN, lost=False), None)
        advance()
        while wanted and not pressed.is_set() and (frame := next(source, None)) is not None:
            track = _time_update(tracker, frame, tally)
            wanted = outputs.write(tally.tracked, frame, track, tally.tracker_fps)
            if on_track:
                on_track(track)
            advance()
        tally.loop_seconds = time.perf_counter() - start
    return tally.summarize(pressed.is_set(), outputs.paths)


def parse_box(text: str) -> Box:
    """The box in `--init x,y,w,h`."""
    try:
        x, y, width, height = (float(number) for number in text.split(","))
    except ValueError:
        raise InputError(
            "--init", found=repr(text), expected="four numbers x,y,w,h such as 120,80,64,48"
        ) from None
    return (x, y, width, height)


def _hold(stack: contextlib.ExitStack, item: _Closing | None) -> _Closing | None:
    if item is not None:
        stack.callback(item.close)
    return item


def _time_update(tracker: Tracker, frame: Frame, tally: _Tally) -> Track:
    start = time.perf_counter()
    track = tracker.update(frame)
    tally.count(track, time.perf_counter() - start)
    return track
