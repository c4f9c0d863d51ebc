"""Frames read on a thread of their own: cameras never lag, files never skip, breaks are mended."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from relo_edge.errors import InputError, SourceError
from relo_edge.video.opening import open_source
from relo_edge.video.sources.frames import USUAL_FPS, Frame, FrameSource

__all__ = ["LiveFrame", "LiveReader", "Patience", "State", "read_live"]

log = logging.getLogger("relo_edge")

State = Literal["opening", "running", "stalled", "reconnecting", "ended", "failed", "closed"]

AHEAD_LIVE = 2
"""Frames that wait for a slow reader: enough for a hiccup, too few to lag."""
AHEAD_FILE = 4

WATCH_SECONDS = 0.1
"""How often a waiting reader looks whether the source still lives."""

CLOSE_SECONDS = 15.0
"""Longer than any backend keeps a read waiting; after it the thread is left to the process."""


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One frame, and when it was."""

    image: Frame
    """The reader's own array: nobody writes to it again."""
    index: int
    """Counted from 0 over all that the source gave: what was dropped leaves a gap."""
    captured: float
    """`time.monotonic()` when it arrived."""
    media: float
    """Seconds since the first frame: by a file's own clock, by the arrival of a live one."""


@dataclass(frozen=True)
class Patience:
    """How long a live source may be silent or gone."""

    stall: float = 3.0
    """Seconds without a frame after which it counts as stalled."""
    first_wait: float = 0.5
    """Seconds before the first try to get it back; each further wait is twice as long."""
    longest_wait: float = 10.0
    attempts: int = 8
    """Tries in a row before it is given up."""

    def __post_init__(self) -> None:
        if min(self.stall, self.first_wait) <= 0 or self.longest_wait < self.first_wait:
            raise InputError("patience", found=self, expected="times above 0, the longest longest")
        if self.attempts < 0:
            raise InputError("patience: attempts", found=self.attempts, expected="0 or more")

    def wait_before(self, attempt: int) -> float:
        """Seconds before the n-th try in a row, counted from 1."""
        return min(self.first_wait * 2.0 ** min(attempt - 1, 30), self.longest_wait)


class LiveReader(Iterator[LiveFrame]):
    """Iterate it inside a `with`; on the way out thread, camera and child process are gone.

    All methods and properties may be used from any thread.
    """

    def __init__(self, open_frames: Callable[[], FrameSource], patience: Patience) -> None:
        self._open_frames, self._patience = open_frames, patience
        self._changed = threading.Condition()
        self._queue: deque[LiveFrame] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relo-edge-source", daemon=True)
        self._source: FrameSource | None = None
        self._state: State = "opening"
        self._error: Exception | None = None
        self._heard = self._began = 0.0
        self._stall_said = False
        self._facts: tuple[str, float, int | None, bool] = ("source", USUAL_FPS, None, False)
        self.captured = 0
        """Frames the source gave."""
        self.dropped = 0
        """Of these, frames that a newer one replaced before they were read."""
        self.reconnects = 0

    @property
    def name(self) -> str:
        """What the source calls itself."""
        return self._facts[0]

    @property
    def fps(self) -> float:
        """The rate the source names."""
        return self._facts[1]

    @property
    def frame_count(self) -> int | None:
        """How many frames there will be, where that is known."""
        return self._facts[2]

    @property
    def live(self) -> bool:
        """A live source drops old frames for new ones; any other waits to be read."""
        return self._facts[3]

    @property
    def state(self) -> State:
        """What the source is doing."""
        return "stalled" if self._is_silent() else self._state

    @property
    def problem(self) -> str | None:
        """What last went wrong, in one line."""
        return str(self._error) if self._error else None

    @property
    def over(self) -> bool:
        """No frame is left, and none will come."""
        return not self._queue and self._state in ("ended", "failed", "closed")

    def __enter__(self) -> LiveReader:
        self._thread.start()
        try:
            with self._changed:
                self._changed.wait_for(lambda: self._state != "opening")
        except BaseException:  # Ctrl-C, while a camera takes its time
            self.close()
            raise
        if self._state == "failed" and not self._queue:
            self.close()
            self._raise_error()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __next__(self) -> LiveFrame:
        while (frame := self.read()) is None:
            if self.over:
                raise StopIteration
        return frame

    def read(self, timeout: float | None = None) -> LiveFrame | None:
        """The next frame; None when none came in time, or when the source is over.

        What broke the source for good is raised once its last frame was read.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._queue and not self.over:
                left = WATCH_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, WATCH_SECONDS))
                self._watch_silence()
            if self._queue:
                frame = self._queue.popleft()
                self._changed.notify_all()
                return frame
        if self._state == "failed":
            self._raise_error()
        return None

    def close(self) -> None:
        """Give everything back; closing twice is fine."""
        self._stop.set()
        self._settle("closed")
        with self._changed:
            self._queue.clear()
            self._changed.notify_all()
            if self._source:
                self._source.interrupt()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            log.warning("%s does not let go; its thread ends with the process", self.name)

    def _raise_error(self) -> None:
        assert self._error is not None
        raise self._error

    def _is_silent(self) -> bool:
        silence = time.monotonic() - self._heard
        return self._state == "running" and self.live and silence > self._patience.stall

    def _watch_silence(self) -> None:
        """Say once that nothing comes, and end a child that gives nothing, to start it anew."""
        if self._is_silent() and not self._stall_said:
            self._stall_said = True
            log.warning("%s stalled: nothing for %g s", self.name, self._patience.stall)
            if self._source:
                self._source.interrupt()

    def _run(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            before = self.captured
            try:
                self._read_source()
            except Exception as error:
                attempt = 1 if self.captured > before else attempt + 1
                if not self._may_retry(error, attempt):
                    return self._settle("failed", error)
                self._wait_turn(error, attempt)
            else:
                break
        return self._settle("ended")

    def _may_retry(self, error: Exception, attempt: int) -> bool:
        """Only what was once open and live may come back; a wrong name never will."""
        opened = self._state != "opening"
        mendable = isinstance(error, SourceError) and self.live and opened
        return mendable and not self._stop.is_set() and attempt <= self._patience.attempts

    def _wait_turn(self, error: Exception, attempt: int) -> None:
        wait = self._patience.wait_before(attempt)
        self._settle("reconnecting", error)
        log.warning("%s; trying again in %g s", error, wait)
        self._stop.wait(wait)

    def _read_source(self) -> None:
        """Open the source and queue all it gives."""
        with self._open_frames() as source:
            self._note_opened(source)
            try:
                for image in source:
                    if not self._queue_frame(image, source):
                        return
            finally:
                with self._changed:
                    self._source = None

    def _note_opened(self, source: FrameSource) -> None:
        with self._changed:
            if self._state == "reconnecting":
                self.reconnects += 1
                log.warning("%s is back", source.name)
            self._source = source
            self._facts = (source.name, source.fps, source.frame_count, source.live)
            self._heard, self._stall_said = time.monotonic(), False
            if self._stop.is_set():
                source.interrupt()  # it was being opened while we were closed
        self._settle("running")

    def _queue_frame(self, image: Frame, source: FrameSource) -> bool:
        """Queue a frame; False when nobody wants more."""
        arrived = time.monotonic()
        with self._changed:
            if not self.captured:
                self._began = arrived
            media = arrived - self._began if source.live else source.media_time
            if source.live and len(self._queue) >= AHEAD_LIVE:
                self._queue.popleft()
                self.dropped += 1
            while len(self._queue) >= AHEAD_FILE and not self._stop.is_set():
                self._changed.wait()
            if self._stop.is_set():
                return False
            self._queue.append(LiveFrame(image, self.captured, arrived, media))
            self.captured += 1
            self._heard, self._stall_said = arrived, False
            self._changed.notify_all()
        return True

    def _settle(self, state: State, error: Exception | None = None) -> None:
        with self._changed:
            if self._stop.is_set():
                state, error = "closed", None  # what broke in closing is no news
            self._state, self._error = state, error or self._error
            self._changed.notify_all()


def read_live(
    source: str | Path | Callable[[], FrameSource], *, patience: Patience | None = None
) -> LiveReader:
    """A reader of any source that `open_source` knows, or of what a function opens."""
    open_frames = source if callable(source) else partial(open_source, str(source))
    return LiveReader(open_frames, patience or Patience())
