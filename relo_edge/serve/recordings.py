"""Recordings made from the page: a video and its boxes, all in one folder."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from relo_edge.box_files import BoxRecorder, record_boxes
from relo_edge.errors import InputError, SourceError
from relo_edge.serve.snapshots import NamedTrack
from relo_edge.tracking.overlay import draw_rate, draw_track
from relo_edge.video.feed import FrameNumbering
from relo_edge.video.live import LiveFrame
from relo_edge.video.recorder import VideoRecorder
from relo_edge.video.recovery import recover_folder
from relo_edge.video.sources.frames import Frame

__all__ = ["FinishedRecording", "Recordings"]

MAX_LISTED = 50
"""The newest files, which a page lists."""

MAX_QUEUED_BYTES = 64 << 20
"""Frames waiting for the encoder: two seconds at 640x480, ten frames at 1920x1080."""

MAX_SAVING = 2
"""Recordings that are being finished at a time: the frames that each still holds add up."""

FILE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*\.(?:mp4|csv)", re.ASCII)


class FinishedRecording(NamedTuple):
    """A recording that is over, and the first error in it."""

    name: str
    failure: Exception | None


class Recordings:
    """One recording at a time, and the list of finished files.

    All methods but `find` are for the tracking thread; only `close` waits for an encoder. Files
    that a killed server left unfinished are recovered at the start.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"recordings {str(folder)!r}", found="a file", expected="a folder")
        self.folder = folder
        self.made: list[Path] = []
        """Files recorded since the start."""
        if folder.is_dir():
            recover_folder(folder)
        self._running: _Recording | None = None
        self._ended: list[_Recording] = []
        self.files = self.list_files()
        """The finished files, as of the end of the last recording."""

    @property
    def current(self) -> str | None:
        """The name of the running recording."""
        return self._running.name if self._running else None

    @property
    def saving(self) -> list[str]:
        """The names of recordings that are over but not saved yet."""
        return [recording.name for recording in self._ended]

    def start(self, source: str, fps: float) -> None:
        """Start a recording under a new name, made of the source's name and the time."""
        if self._running:
            raise InputError("a recording is running already", fix="stop it first")
        if len(self._ended) >= MAX_SAVING:
            raise InputError(
                f"{len(self._ended)} recordings are still being saved", fix="wait for one of them"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            what = f"recordings folder {str(self.folder)!r} cannot be made"
            raise SourceError(what, found=error.strerror) from None
        self._running = _Recording(self.folder, self._choose_name(source), fps)

    def write(self, frame: LiveFrame, tracks: tuple[NamedTrack, ...], fps: float | None) -> None:
        """Add a frame; a recording that failed is ended, and its frames so far are kept."""
        if self._running is None:
            return
        self._running.write(frame, tracks, fps)
        if self._running.failure:
            self.stop()

    def stop(self) -> str:
        """End the running recording and return its name; `collect` says when it is saved."""
        recording = self._running
        if recording is None:
            raise InputError("no recording is running")
        self._ended.append(recording)  # first, so that `find` never sees it as neither
        self._running = None
        recording.end()
        return recording.name

    def collect(self) -> list[FinishedRecording]:
        """The recordings that were saved, or failed, since the last call."""
        saved = [recording for recording in self._ended if recording.over]
        if saved:
            self._ended = [recording for recording in self._ended if recording not in saved]
            self.made += [path for recording in saved for path in recording.paths if path.exists()]
            self.files = self.list_files()
        return [FinishedRecording(recording.name, recording.failure) for recording in saved]

    def close(self) -> list[FinishedRecording]:
        """Finish every recording, however long that takes."""
        if self._running:
            self.stop()
        for recording in self._ended:
            recording.wait()
        return self.collect()

    def list_files(self) -> list[dict[str, Any]]:
        """The finished files in the folder, newest first."""
        # Read in this order: another thread may end the running one meanwhile.
        recordings = [recording for recording in (self._running, *self._ended) if recording]
        unfinished = {path.name for recording in recordings for path in recording.paths}
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                # A link may lead out of the folder.
                if FILE_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    status = path.stat()
                    found.append((status.st_mtime, path.name, status.st_size))
        newest = sorted(found, reverse=True)[:MAX_LISTED]
        return [{"name": name, "bytes": size} for _, name, size in newest if name not in unfinished]

    def find(self, name: str) -> Path | None:
        """A finished file by its name; only listed files can be downloaded."""
        listed = any(entry["name"] == name for entry in self.list_files())
        return self.folder / name if listed else None

    def _choose_name(self, source: str) -> str:
        word = re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-")[:40] or "source"
        stem = f"{word}-{time.strftime('%Y%m%d-%H%M%S')}"
        names, number = {path.stem for path in self.folder.iterdir()}, 1
        while (name := stem if number == 1 else f"{stem}-{number}") in names:
            number += 1
        return name


class _Recording:
    """One recording: frames count from its own start, in the video as in the boxes.

    The video has a thread of its own, so that a slow encoder costs it frames and never the
    tracker; the boxes are of every frame.
    """

    def __init__(self, folder: Path, name: str, fps: float) -> None:
        self.name = name
        self._video = VideoRecorder(folder / f"{name}.mp4", fps)
        try:
            self._boxes: BoxRecorder = record_boxes(folder / f"{name}.csv")
        except BaseException:
            self._video.close()
            raise
        self._numbering = FrameNumbering(fps)
        self.failure: Exception | None = None
        """The first error."""
        self._queue: queue.Queue[_AnnotatedFrame | None] = queue.Queue()
        self._empty = True
        self._skipped: _AnnotatedFrame | None = None
        self._thread = threading.Thread(target=self._save, name="relo-edge-recording")
        self._thread.start()

    @property
    def paths(self) -> tuple[Path, Path]:
        return self._video.path, self._boxes.path

    def write(self, frame: LiveFrame, tracks: tuple[NamedTrack, ...], fps: float | None) -> None:
        """Boxes at once, the picture when the encoder has time; see `failure`."""
        number, self._empty = self._numbering.next_number(frame.media), False
        with self._note_failure():
            for track in tracks:
                self._boxes.write(number, track.name, track.track)
        annotated = _AnnotatedFrame(number, frame.image, tracks, fps)
        if self._queue.qsize() * frame.image.nbytes < MAX_QUEUED_BYTES:
            self._queue.put(annotated)
            self._skipped = None
        else:
            self._skipped = annotated

    def end(self) -> None:
        """No more frames come; returns at once."""
        for frame in (self._skipped, None):  # the last one is kept, so that the length is right
            self._queue.put(frame)

    @property
    def over(self) -> bool:
        """Whether both files are finished; a recording without a frame leaves none."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until it is over."""
        self._thread.join()

    def _save(self) -> None:
        """Encode to the end and finish both files; after a failure the other frames are dropped."""
        frames = iter(self._queue.get, None)
        with self._note_failure():
            for frame in frames:
                self._video.write(frame.draw(), frame.number)
        for _ in frames:
            pass
        for close in (self._video.close, self._boxes.close):
            with self._note_failure():
                close()
        if self._empty:
            with self._note_failure():
                self._boxes.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _note_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error


class _AnnotatedFrame(NamedTuple):
    """A frame and what is drawn on it."""

    number: int
    image: Frame
    tracks: tuple[NamedTrack, ...]
    fps: float | None

    def draw(self) -> Frame:
        picture = self.image.copy()
        for track in self.tracks:
            draw_track(picture, track.track, track.name, index=track.target)
        if self.fps is not None:
            draw_rate(picture, self.fps)
        return picture
