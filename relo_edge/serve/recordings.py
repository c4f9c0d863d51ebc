"""Recordings made from the page: a video and its boxes, in one folder and nowhere else."""

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
from relo_edge.video.live import LiveFrame
from relo_edge.video.recorder import VideoRecorder
from relo_edge.video.sources.frames import Frame

__all__ = ["SavedTake", "Takes"]

LISTED = 50
"""The newest files that a page is told of."""

WAITING_BYTES = 64 << 20
"""Pictures that wait for the encoder: two seconds at 640x480, ten frames at 1920x1080."""

MOST_SAVING = 2
"""Recordings that may be finished at a time: the pictures that each still holds add up."""

NAME = re.compile(r"[A-Za-z0-9][\w.-]*\.(?:mp4|csv)", re.ASCII)


class SavedTake(NamedTuple):
    """A recording that is over, and what went wrong with it."""

    name: str
    failure: Exception | None


class Takes:
    """One recording at a time, and the list of those that are done.

    All but `find` is for the one thread that tracks; none of it but `close` waits for an encoder.
    """

    def __init__(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise InputError(f"recordings {str(folder)!r}", found="a file", expected="a folder")
        self.folder = folder
        self.made: list[Path] = []
        """What was recorded since the start."""
        self._take: _Take | None = None
        self._ended: list[_Take] = []
        self.files = self.list_files()
        """The finished files, as of the last recording."""

    @property
    def current(self) -> str | None:
        """The name of the recording that is running."""
        return self._take.name if self._take else None

    @property
    def saving(self) -> list[str]:
        """The names of recordings that are over but not whole yet."""
        return [take.name for take in self._ended]

    def start(self, source: str, fps: float) -> None:
        """Begin a recording under a new name, made of the source's and the time."""
        if self._take:
            raise InputError("recording", found="one is running", expected="none")
        if len(self._ended) >= MOST_SAVING:
            raise InputError(
                "recording",
                found=f"{len(self._ended)} before it not saved yet",
                expected=f"fewer than {MOST_SAVING}",
                fix="wait for one",
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SourceError(f"folder {str(self.folder)!r}", found=error.strerror) from None
        self._take = _Take(self.folder, self._choose_name(source), fps)

    def write(self, frame: LiveFrame, tracks: tuple[NamedTrack, ...], fps: float | None) -> None:
        """Add a frame; a recording that failed is ended, and what it has is kept."""
        if self._take is None:
            return
        self._take.write(frame, tracks, fps)
        if self._take.failure:
            self.stop()

    def stop(self) -> str:
        """End the recording named; it is whole once `collect` tells so."""
        take = self._take
        if take is None:
            raise InputError("recording", found="none is running", expected="one")
        self._ended.append(take)  # first, so that `find` never sees it as neither
        self._take = None
        take.end()
        return take.name

    def collect(self) -> list[SavedTake]:
        """The recordings that became whole, or failed, since the last time."""
        saved = [take for take in self._ended if take.over]
        if saved:
            self._ended = [take for take in self._ended if take not in saved]
            self.made += [path for take in saved for path in take.paths if path.exists()]
            self.files = self.list_files()
        return [SavedTake(take.name, take.failure) for take in saved]

    def close(self) -> list[SavedTake]:
        """Finish whatever is not whole yet, however long that takes."""
        if self._take:
            self.stop()
        for take in self._ended:
            take.wait()
        return self.collect()

    def list_files(self) -> list[dict[str, Any]]:
        """The finished files in the folder, newest first."""
        # Read in this order: another thread may end the one that is running meanwhile.
        takes = [take for take in (self._take, *self._ended) if take]
        unfinished = {path.name for take in takes for path in take.paths}
        found = []
        with contextlib.suppress(OSError):
            for path in self.folder.iterdir():
                # A link may lead out of the folder.
                if NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    status = path.stat()
                    found.append((status.st_mtime, path.name, status.st_size))
        newest = sorted(found, reverse=True)[:LISTED]
        return [{"name": name, "bytes": size} for _, name, size in newest if name not in unfinished]

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

    The video has a thread of its own, so that an encoder that is too slow, or long at its end,
    costs it frames, not the tracker; the boxes are kept of every frame.
    """

    def __init__(self, folder: Path, name: str, fps: float) -> None:
        self.name = name
        self._video = VideoRecorder(folder / f"{name}.mp4", fps)
        self._boxes: BoxRecorder = record_boxes(folder / f"{name}.csv")
        self._fps, self._longest_gap = fps, max(1, round(fps))
        self._origin: float | None = None
        self._number = 0
        self.failure: Exception | None = None
        """The first thing that went wrong."""
        self._queue: queue.Queue[_Scene | None] = queue.Queue()
        self._skipped: _Scene | None = None
        self._thread = threading.Thread(target=self._save, name="relo-edge-recording")
        self._thread.start()

    @property
    def paths(self) -> tuple[Path, Path]:
        return self._video.path, self._boxes.path

    def write(self, frame: LiveFrame, tracks: tuple[NamedTrack, ...], fps: float | None) -> None:
        """Boxes at once, the picture when the encoder has time; see `failure`."""
        self._count(frame.media)
        with self._note_failure():
            for track in tracks:
                self._boxes.write(self._number, track.name, track.track)
        scene = _Scene(self._number, frame.image, tracks, fps)
        if self._queue.qsize() * frame.image.nbytes < WAITING_BYTES:
            self._queue.put(scene)
            self._skipped = None
        else:
            self._skipped = scene

    def end(self) -> None:
        """No more frames come; returns at once."""
        for scene in (self._skipped, None):  # the very last is kept, so that the time is right
            self._queue.put(scene)

    @property
    def over(self) -> bool:
        """Whether both files are whole; a recording without a frame leaves none."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Until it is over."""
        self._thread.join()

    def _save(self) -> None:
        """Encode to the end, leave whole files; after a failure the other pictures are let go."""
        scenes = iter(self._queue.get, None)
        with self._note_failure():
            for scene in scenes:
                self._video.write(scene.draw(), scene.number)
        for _ in scenes:
            pass
        for close in (self._video.close, self._boxes.close):
            with self._note_failure():
                close()
        if self._origin is None:
            with self._note_failure():
                self._boxes.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _note_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failure = self.failure or error

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
