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
from relo_edge.video.sources.frames import DEFAULT_FPS, Frame, FrameSource

__all__ = ["LiveFrame", "LiveReader", "ReconnectPolicy", "State", "read_live"]

log = logging.getLogger("relo_edge")

State = Literal["opening", "running", "stalled", "reconnecting", "ended", "failed", "closed"]

LIVE_QUEUE_SIZE = 2
"""Frames that wait for a slow reader: enough for a hiccup, too few to lag."""
FILE_QUEUE_SIZE = 4

POLL_SECONDS = 0.1
"""How often a waiting reader checks that the source is still alive."""

CLOSE_SECONDS = 15.0
"""Longer than any backend blocks in a read; after it the thread is left to the process."""


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """One frame and its times.

    Attributes:
        image: uint8 [height, width, 3], BGR; the reader's own array, never written to again.
        index: counted from 0 over all frames of the source; dropped frames leave gaps.
        captured: `time.monotonic()` when the frame arrived.
        media: seconds since the first frame: by a file's timestamps, by a camera's arrivals.
    """

    image: Frame
    index: int
    captured: float
    media: float


@dataclass(frozen=True)
class ReconnectPolicy:
    """When a live source counts as stalled, and how often it is reopened.

    Attributes:
        stall_seconds: time without a frame after which the source counts as stalled.
        first_delay: seconds before the first attempt; each further delay is twice as long.
        max_delay: upper limit of the delay, in seconds.
        attempts: attempts in a row before the source is given up.

    Raises:
        InputError: a time is not above 0, or `max_delay` is below `first_delay`.
    """

    stall_seconds: float = 3.0
    first_delay: float = 0.5
    max_delay: float = 10.0
    attempts: int = 8

    def __post_init__(self) -> None:
        if min(self.stall_seconds, self.first_delay) <= 0 or self.max_delay < self.first_delay:
            raise InputError(
                "reconnect policy",
                found=self,
                expected="times above 0 and max_delay not below first_delay",
            )
        if self.attempts < 0:
            raise InputError(
                "reconnect policy: attempts", found=self.attempts, expected="0 or more"
            )

    def delay_before(self, attempt: int) -> float:
        """Seconds before the n-th attempt in a row, counted from 1."""
        return min(self.first_delay * 2.0 ** min(attempt - 1, 30), self.max_delay)


@dataclass(frozen=True)
class _SourceInfo:
    name: str = "source"
    fps: float = DEFAULT_FPS
    frame_count: int | None = None
    live: bool = False


class LiveReader(Iterator[LiveFrame]):
    """An iterator over a source's frames, to be used in a `with` block.

    The block opens the source; leaving it ends thread, camera and child process. All methods and
    properties may be used from any thread. `read_live` makes one.

    Attributes:
        captured: frames that the source gave.
        dropped: how many of these a newer frame replaced before they were read.
        reconnects: how often a lost source came back.
    """

    def __init__(self, open_frames: Callable[[], FrameSource], policy: ReconnectPolicy) -> None:
        self._open_frames, self._policy = open_frames, policy
        self._changed = threading.Condition()
        self._queue: deque[LiveFrame] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="relo-edge-source", daemon=True)
        self._source: FrameSource | None = None
        self._state: State = "opening"
        self._error: Exception | None = None
        self._last_arrival = self._first_arrival = 0.0
        self._stall_logged = False
        self._info = _SourceInfo()
        self.captured = 0
        self.dropped = 0
        self.reconnects = 0

    @property
    def name(self) -> str:
        """What the source calls itself."""
        return self._info.name

    @property
    def fps(self) -> float:
        """The rate that the source announces."""
        return self._info.fps

    @property
    def frame_count(self) -> int | None:
        """The number of frames, where it is known."""
        return self._info.frame_count

    @property
    def live(self) -> bool:
        """Whether old frames are dropped for new ones; any other source waits to be read."""
        return self._info.live

    @property
    def state(self) -> State:
        """What the source is doing."""
        return "stalled" if self._is_stalled() else self._state

    @property
    def problem(self) -> str | None:
        """The last error, in one line."""
        return str(self._error) if self._error else None

    @property
    def over(self) -> bool:
        """Whether no frame is left and none will come."""
        return not self._queue and self._state in ("ended", "failed", "closed")

    def __enter__(self) -> LiveReader:
        """Open the source.

        Raises:
            SourceError: the source does not open.
            InputError: this reader was opened before.
        """
        if self._thread.ident is not None or self._stop.is_set():
            raise InputError("this reader was opened before", fix="call read_live again")
        try:
            self._thread.start()
            with self._changed:
                self._changed.wait_for(lambda: self._state != "opening")
        except BaseException:  # Ctrl-C while a camera is being opened
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
        """Return the next frame.

        Args:
            timeout: seconds to wait for it; without one, until there is a frame.

        Returns:
            The frame, or None when none came in time or the source is over.

        Raises:
            SourceError: the source broke for good; raised once its last frame was read.
            InputError: the reader is not open.
        """
        if self._thread.ident is None and not self._stop.is_set():
            raise InputError(
                "this reader is not open", fix="use it as `with read_live(…) as reader:`"
            )
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._queue and not self.over:
                left = POLL_SECONDS if deadline is None else deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(min(left, POLL_SECONDS))
                self._interrupt_stalled()
            if self._queue:
                frame = self._queue.popleft()
                self._changed.notify_all()
                return frame
        if self._state == "failed":
            self._raise_error()
        return None

    def read_newest(self, timeout: float | None = None) -> LiveFrame | None:
        """Return a camera's last frame, a file's next; those that it replaces count as dropped.

        Args:
            timeout: seconds to wait for it; without one, until there is a frame.

        Returns:
            The frame, or None when none came in time or the source is over.

        Raises:
            SourceError: the source broke for good.
            InputError: the reader is not open.
        """
        frame = self.read(timeout)
        while frame is not None and self.live and (newer := self.read(0)) is not None:
            frame = newer
            with self._changed:
                self.dropped += 1
        return frame

    def close(self) -> None:
        """Release the source; closing twice is fine."""
        self._stop.set()
        self._set_state("closed")
        with self._changed:
            self._queue.clear()
            self._changed.notify_all()
            if self._source:
                self._source.interrupt()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            log.warning("%s does not close; its thread ends with the process", self.name)

    def _raise_error(self) -> None:
        assert self._error is not None
        raise self._error

    def _is_stalled(self) -> bool:
        silence = time.monotonic() - self._last_arrival
        return self._state == "running" and self.live and silence > self._policy.stall_seconds

    def _interrupt_stalled(self) -> None:
        """Log a stall once, and end a child process that gives nothing, so that it is restarted."""
        if self._is_stalled() and not self._stall_logged:
            self._stall_logged = True
            log.warning("%s stalled: no frame for %g s", self.name, self._policy.stall_seconds)
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
                    return self._set_state("failed", error)
                self._wait_before_retry(error, attempt)
            else:
                break
        return self._set_state("ended")

    def _may_retry(self, error: Exception, attempt: int) -> bool:
        """Only a live source that was open once is reopened; a wrong name never works."""
        opened = self._state != "opening"
        transient = isinstance(error, SourceError) and self.live and opened
        return transient and not self._stop.is_set() and attempt <= self._policy.attempts

    def _wait_before_retry(self, error: Exception, attempt: int) -> None:
        delay = self._policy.delay_before(attempt)
        self._set_state("reconnecting", error)
        log.warning("%s; trying again in %g s", error, delay)
        self._stop.wait(delay)

    def _read_source(self) -> None:
        """Open the source and queue all its frames."""
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
            self._info = _SourceInfo(source.name, source.fps, source.frame_count, source.live)
            self._last_arrival, self._stall_logged = time.monotonic(), False
            if self._stop.is_set():
                source.interrupt()  # the reader was closed while the source was being opened
        self._set_state("running")

    def _queue_frame(self, image: Frame, source: FrameSource) -> bool:
        """Queue a frame; False once the reader is closed."""
        arrived = time.monotonic()
        with self._changed:
            if not self.captured:
                self._first_arrival = arrived
            media = arrived - self._first_arrival if source.live else source.media_time
            if source.live and len(self._queue) >= LIVE_QUEUE_SIZE:
                self._queue.popleft()
                self.dropped += 1
            while len(self._queue) >= FILE_QUEUE_SIZE and not self._stop.is_set():
                self._changed.wait()
            if self._stop.is_set():
                return False
            self._queue.append(LiveFrame(image, self.captured, arrived, media))
            self.captured += 1
            self._last_arrival, self._stall_logged = arrived, False
            self._changed.notify_all()
        return True

    def _set_state(self, state: State, error: Exception | None = None) -> None:
        with self._changed:
            if self._stop.is_set():
                state, error = "closed", None  # errors while closing are of no interest
            self._state, self._error = state, error or self._error
            self._changed.notify_all()


def read_live(
    source: str | Path | Callable[[], FrameSource], *, reconnect: ReconnectPolicy | None = None
) -> LiveReader:
    """Return a reader that reads a source on a thread of its own.

    A live source drops old frames for new ones and is reopened when it breaks; a file waits.

    Args:
        source: video file, folder or glob of images, camera number, stream address, GStreamer
            pipeline, `csi:…` or `synthetic:…`; or a function that opens a `FrameSource`.
        reconnect: when a live source counts as stalled and how often it is reopened.

    Returns:
        A reader, to be used in a `with`; errors are raised there.
    """
    open_frames = source if callable(source) else partial(open_source, str(source))
    return LiveReader(open_frames, reconnect or ReconnectPolicy())
