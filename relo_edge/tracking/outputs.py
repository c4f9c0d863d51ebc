"""A run's outputs: checked before it starts, opened and closed together."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from relo_edge.box_files import BOX_SUFFIXES, STDOUT, BoxRecorder, record_boxes
from relo_edge.errors import InputError, NoSpaceError
from relo_edge.host.files import announce_replacement, check_output
from relo_edge.labels.recorder import LABEL_SUFFIXES, LabelRecorder, find_format
from relo_edge.labels.rows import LabelledClip
from relo_edge.tracker import SearchView, Track
from relo_edge.tracking.overlay import draw_rate, draw_track, draw_view
from relo_edge.video.feed import FeedFrame
from relo_edge.video.recorder import VIDEO_SUFFIXES, VideoRecorder
from relo_edge.video.sources.frames import Frame
from relo_edge.video.window import Window

__all__ = ["Outputs", "Sinks", "Tracks", "check_outputs"]

log = logging.getLogger("relo_edge")

Tracks = Mapping[int | str, Track]
"""By target name."""


@dataclass(frozen=True)
class Sinks:
    """Where a run's results go.

    Attributes:
        video: an annotated video to write.
        boxes: box files to write.
        show: whether a window shows the frames.
        heatmap: whether search windows and policy maps are drawn too.
        source: which source it is, in lines on stdout that are about several.

    Raises:
        InputError: a heatmap without a picture to draw it on.
    """

    video: Path | None = None
    boxes: Sequence[Path] = ()
    show: bool = False
    heatmap: bool = False
    source: str | None = None

    def __post_init__(self) -> None:
        if self.heatmap and not self.video and not self.show:
            raise InputError("--heatmap has no picture to draw on", fix="add --save FILE or --show")


def check_outputs(source: str, sinks: Sinks, others: Sequence[Path] = ()) -> None:
    """Check all files that a run would write: possible, different, and none that the run reads."""
    inputs = {_identify(Path(source)), *map(_identify, others)} - {None}
    box_suffixes: tuple[str, ...] = BOX_SUFFIXES + LABEL_SUFFIXES
    outputs = [(path, box_suffixes) for path in sinks.boxes if path != STDOUT]
    if len(sinks.boxes) - len(outputs) > 1:
        raise InputError("--boxes - is given twice", fix="give it once")
    outputs += [(sinks.video, VIDEO_SUFFIXES)] if sinks.video else []
    seen: set[Path] = set()
    for path, suffixes in outputs:
        truth = path.name.startswith("groundtruth")
        if _identify(check_output(path, suffixes)) in inputs or (truth and path.exists()):
            raise InputError(
                f"output {str(path)!r}",
                found="ground truth" if truth else "the source itself, or another input",
                fix="choose another name",
            )
        if path.absolute() in seen:
            raise InputError(f"output {str(path)!r} is named twice", fix="name each file once")
        seen.add(path.absolute())
    for path, _ in outputs:
        announce_replacement(path)


def _open_boxes(path: Path, clip: LabelledClip, source: str | None) -> BoxRecorder:
    write_format = find_format(path)
    return LabelRecorder(path, write_format, clip) if write_format else record_boxes(path, source)


def _identify(path: Path) -> tuple[int, int] | None:
    """The same for two names of one file; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


class _Closable(Protocol):
    def close(self) -> None: ...


_Closing = TypeVar("_Closing", bound=_Closable | None)


class Outputs:
    """The video, box files and window of a run, opened and closed together."""

    def __init__(self, clip: LabelledClip, sinks: Sinks) -> None:
        videos = (sinks.video,) if sinks.video else ()
        self.paths: tuple[Path, ...] = (*videos, *(p for p in sinks.boxes if p != STDOUT))
        """The files written."""
        self._indices: dict[int | str, int] = {}
        with contextlib.ExitStack() as stack:
            self._window = _register(
                stack, Window(f"relo-edge: {clip.name}") if sinks.show else None
            )
            self._video = _register(
                stack, VideoRecorder(sinks.video, clip.fps) if sinks.video else None
            )
            self._boxes = [
                _register(stack, _open_boxes(path, clip, sinks.source)) for path in sinks.boxes
            ]
            self._open = stack.pop_all()

    def write(
        self, frame: FeedFrame, tracks: Tracks, views: Sequence[SearchView], fps: float | None
    ) -> bool:
        """Write a frame's results; False once the window's user ends the run."""
        for boxes in self._boxes:
            for name, track in tracks.items():
                boxes.write(frame.number, name, track, frame.time)
        if not self._video and not self._window:
            return True
        picture = frame.image.copy()
        for view in views:
            draw_view(picture, view)
        for name, track in tracks.items():
            index = self._indices.setdefault(name, len(self._indices))
            draw_track(picture, track, str(name), index=index)
        if fps is not None:
            draw_rate(picture, fps)
        if self._video:
            self._record(self._video, picture, frame.number)
        return self._window.show(picture) if self._window else True

    def _record(self, video: VideoRecorder, picture: Frame, number: int) -> None:
        """A full disk ends the video, which is finished at once; tracking goes on."""
        try:
            video.write(picture, number)
        except NoSpaceError as error:
            log.warning("%s; tracking goes on without it", error)
            self._video = None
            video.close()

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()


def _register(stack: contextlib.ExitStack, item: _Closing) -> _Closing:
    if item is not None:
        stack.callback(item.close)
    return item
