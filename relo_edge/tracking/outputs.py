"""Where a run's results go: checked before it starts, opened and closed together."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from relo_edge.box_files import BOX_SUFFIXES, record_boxes
from relo_edge.errors import InputError
from relo_edge.host.files import check_output
from relo_edge.host.locks import lock_output
from relo_edge.tracker import SearchView, Track
from relo_edge.tracking.overlay import draw_rate, draw_track, draw_view
from relo_edge.video.feed import FeedFrame
from relo_edge.video.recorder import VIDEO_SUFFIXES, VideoRecorder
from relo_edge.video.window import Window

__all__ = ["Outputs", "Sinks", "Tracks", "check_outputs"]


def check_outputs(
    source: str, video: Path | None, boxes: Path | None, others: Sequence[Path] = ()
) -> None:
    """Check all that a run would write, and that none of it is what the run reads."""
    read = {_identify(Path(source)), *map(_identify, others)} - {None}
    for path, suffixes in ((video, VIDEO_SUFFIXES), (boxes, BOX_SUFFIXES)):
        if path is None:
            continue
        truth = path.name.startswith("groundtruth")
        if _identify(check_output(path, suffixes)) in read or (truth and path.exists()):
            raise InputError(
                f"output {str(path)!r}",
                found="ground truth" if truth else "the source itself, or another file it needs",
                fix="choose another name",
            )


def _identify(path: Path) -> tuple[int, int] | None:
    """The same for two names of one file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


Tracks = Mapping[int | str, Track]


@dataclass(frozen=True)
class Sinks:
    """Where a run's results go."""

    video: Path | None = None
    boxes: Path | None = None
    show: bool = False
    heatmap: bool = False
    """Draw where the tracker looked, and how the policy rated it."""


class _Closable(Protocol):
    def close(self) -> None: ...


_Closing = TypeVar("_Closing", bound=_Closable)


class Outputs:
    """The video, the boxes and the window that were asked for, opened and closed together."""

    def __init__(self, name: str, fps: float, sinks: Sinks) -> None:
        with contextlib.ExitStack() as stack:
            for path in filter(None, (sinks.video, sinks.boxes)):
                stack.enter_context(lock_output(path.resolve()))
            self._window = _hold(stack, Window(f"relo-edge: {name}") if sinks.show else None)
            self._video = _hold(stack, VideoRecorder(sinks.video, fps) if sinks.video else None)
            self._boxes = _hold(stack, record_boxes(sinks.boxes) if sinks.boxes else None)
            self._open = stack.pop_all()

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that were written."""
        return tuple(recorder.path for recorder in (self._video, self._boxes) if recorder)

    def write(
        self, frame: FeedFrame, tracks: Tracks, views: Sequence[SearchView], fps: float | None
    ) -> bool:
        """Record a frame; False when the window's user wants no more."""
        for name, track in tracks.items():
            if self._boxes:
                self._boxes.write(frame.number, name, track, frame.time)
        if not self._video and not self._window:
            return True
        picture = frame.image.copy()
        for view in views:
            draw_view(picture, view)
        for name, track in tracks.items():
            draw_track(picture, track, str(name))
        if fps is not None:
            draw_rate(picture, fps)
        if self._video:
            self._video.write(picture, frame.number)
        return self._window.show(picture) if self._window else True

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _hold(stack: contextlib.ExitStack, item: _Closing | None) -> _Closing | None:
    if item is not None:
        stack.callback(item.close)
    return item
