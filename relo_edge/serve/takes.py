"""Recordings made from the page: a video and its boxes, in one folder and nowhere else."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from relo_edge.errors import InputError, ReloError, SourceError
from relo_edge.live import LiveFrame
from relo_edge.overlay import draw_rate, draw_track
from relo_edge.recording import BoxRecorder, VideoRecorder, record_boxes
from relo_edge.serve.pictures import NamedTrack
from relo_edge.sources.frames import Frame

__all__ = ["Takes"]

log = logging.getLogger("relo_edge")

LISTED = 50
"""The newest files that a page is told of."""

WAITING_BYTES = 64 << 20
"""Pictures that wait for the encoder: two seconds at 640x480, ten frames at 1920x1080."""

NAME = re.compile(r"[A-Za-z0-9][\w.-]*\.(?:mp4|csv)", re.ASCII)


class Takes:
    """One recording at a time, and the list of those that are done."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"recordings {str(folder)!r}", found="a file", expected="a folder")
        self.folder = folder
        self.made: list[Path] = []
        """What was recorded since the start."""
        self._take: _Take | None = None
        self.files = self.list_files()
        """The finished files, as of the last recording."""

    @property
    def current(self) -> str | None:
        """The name of the recording that is running."""
        return self._take.name if self._take else None

    def start(self, source: str, fps: float) -> None:
        """Begin a recording under a new name, made of the source's and the time."""
        if self._take:
            raise InputError("recording", found="one is running", expected="none")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"folder {str(self.folder)!r}", found=error.strerror) from None
        self._take = _Take(self.folder, self._choose_name(source), fps)

    def write(self, frame: LiveFrame, tracks: tuple[NamedTrack, ...], fps: float | None) -> None:
        """Add a frame; a recording that fails is ended, and what it has is kept."""
        if self._take is None:
            return
        try:
            self._take.write(frame, tracks, fps)
        except ReloError:
            with contextlib.suppress(ReloError):
                self.stop()
            raise

    def stop(self) -> None:
        """Finish the recording; its files are whole when this returns."""
        if self._take is None:
            raise InputError("recording", found="none is running", expected="one")
        take, self._take = self._take, None
        try:
            take.close()
        finally:
            self.made += [path for path in take.paths if path.exists()]
            self.files = self.list_files()

    def close(self) -> None:
        """Finish what is running; a failure is said and stops nothing else."""
        if self._take is None:
            return
        try:
            self.stop()
        except ReloError as error:
            log.error("%s", error)

    def list_files(self) -> list[dict[str, Any]]:
        """The finished files in the folder, newest first."""
        take = self._take  # which another thread may end meanwhile
        running = {path.name for path in take.paths} if take else set()
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                # A link may lead out of the folder.
                if NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    status = path.stat()
                    found.append((status.st_mtime, path.name, status.st_size))
        newest = sorted(found, reverse=True)[:LISTED]
        return [{"name": name, "bytes": size} for _, name, size in newest if name not in running]

    def find(self, name: str) -> Path | None:
        """A finished file by its name; only what is listed can be had."""
        listed = any(entry["name"] == name for entry in self.list_files())
        return self.folder / name if listed else None

    def _choose_name(self, source: str) -> str:
        word = re.sub(r"[^A-Za-z0-9]+", "-", source).strip("-")[:40] or "source"
        stem = f"{word}-{time.strftime('%Y%m%d-%H%M%S')}"
        names, number = {path.stem for path in self.folder.iterdir()}, 1
        while (name := stem if number == 1 else f"{stem}-{number}") in names:
            number += 1
        return name


class _Take:
    """One recording: frames count from its own start, in the video as in the boxes.

    The video has a thread of its own, so that an encoder that is too slow costs it frames, not
    the tracker; the boxes are kept of every frame.
    """

    def __init__(self, folder: Path, name: str, fps: float) -> None:
        self.name = name
        self._video = VideoRecorder(folder / f"{name}.mp4", fps)
        self._boxes: BoxRecorder = record_boxes(folder / f"{name}.csv")
        self._fps, self._longest_gap = fps, max(1, round(fps))
        self._origin: float | None = None
        self._number = 0
        self._failure: Exception | None = None
        self._queue: queue.Queue[_Scene | None] = queue.Queue()
        self._skipped: _Scene | None = None
        self._thread = threading.Thread(target=self._encode, name="relo-edge-recording")
        self._thread.start()

    @property
    def paths(self) -> tuple[Path, Path]:
        return self._video.path, self._boxes.path

    def write(self, frame: LiveFrame, tracks: tuple[NamedTrack, ...], fps: float | None) -> None:
        if self._failure:
            raise self._failure
        self._count(frame.media)
        for track in tracks:
            self._boxes.write(self._number, track.name, track.track)
        scene = _Scene(self._number, frame.image, tracks, fps)
        if self._queue.qsize() * frame.image.nbytes < WAITING_BYTES:
            self._queue.put(scene)
            self._skipped = None
        else:
            self._skipped = scene

    def close(self) -> None:
        """Both files whole; a recording without a frame leaves none."""
        for scene in (self._skipped, None):  # the very last is kept, so that the time is right
            self._queue.put(scene)
        self._thread.join()
        try:
            self._video.close()
        finally:
            self._boxes.close()
            if self._origin is None:
                self._boxes.path.unlink(missing_ok=True)
        if self._failure:
            raise self._failure

    def _encode(self) -> None:
        """Until there is no more; after a failure the rest is let go."""
        while (scene := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._video.write(scene.draw(), scene.number)
                except Exception as error:
                    self._failure = error  # raised where the recording is written to

    def _count(self, media: float) -> None:
        """Frames that were dropped keep their time in the video; a pause or a restart does not."""
        if self._origin is None:
            self._origin = media
            return
        step = round((media - self._origin) * self._fps) - self._number
        if abs(step) > self._longest_gap:
            self._number += self._longest_gap if step > 0 else 1
            self._origin = media - self._number / self._fps
        else:
            self._number += max(1, step)


class _Scene(NamedTuple):
    """What one picture of a recording shows."""

    number: int
    image: Frame
    tracks: tuple[NamedTrack, ...]
    fps: float | None

    def draw(self) -> Frame:
        picture = self.image.copy()
        for track in self.tracks:
            draw_track(picture, track.track, track.name)
        if self.fps is not None:
            draw_rate(picture, self.fps)
        return picture
