"""`Fleet`: targets in many sources, each on its own clock, tracked by one runtime."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from relo_edge.errors import InputError
from relo_edge.geometry import Box
from relo_edge.lost import LostRule, Recovery
from relo_edge.runtime import Runtime
from relo_edge.spec import TrackerProtocol
from relo_edge.streams.named_sources import check_source_name
from relo_edge.streams.sharing import WAIT_SECONDS, SharedRuntime, StreamTracker
from relo_edge.streams.source_thread import SourceThread
from relo_edge.tracker import Frame, Track
from relo_edge.tracking.target_files import check_name
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.feed import FeedFrame
from relo_edge.video.live import ReconnectPolicy, read_live
from relo_edge.video.opening import FrameSource

__all__ = ["Fleet", "StreamFrame"]

MAX_WAITING = 8
"""Frames that wait for a slow reader; then files wait, and cameras drop frames."""


@dataclass(frozen=True, eq=False)
class StreamFrame:
    """One frame of one source, and where its targets are.

    Attributes:
        source: the source's name.
        number: a file's count from 0; a camera's by its time, so that dropped frames leave gaps.
        image: uint8 [height, width, 3], BGR.
        time: seconds: a file's timestamp; for a camera, since its first frame.
        tracks: by target name; in a target's first frame, the box that was given.
    """

    source: str
    number: int
    image: Frame
    time: float
    tracks: Mapping[int | str, Track]


class Fleet(Iterator[StreamFrame]):
    """Sources that come and go, read on a thread each, their targets stepped as one batch.

    An iterator over the frames of all sources as they come, to be used in a `with` block; it ends
    when every source is over. A source that fails ends alone: `failures` has its error. All
    methods may be called from any thread.

    Args:
        runtime: an open runtime that no other tracker uses; its `batch` is the largest number of
            targets in all sources, and with `lanes` a CPU steps several of them side by side.
        protocol: the release's settings for a dataset; without them, the default ones.
        lost_rule: when a target counts as lost.
        recovery: how a lost target is searched for; without one it is not.
        reconnect: when a live source counts as stalled and how often it is reopened.
        wait: seconds that a step waits at most for sources that took part in the one before.

    Attributes:
        failures: by source, the error that ended it.

    Raises:
        InputError: a wait below 0.
    """

    def __init__(
        self,
        runtime: Runtime,
        protocol: TrackerProtocol | None = None,
        *,
        lost_rule: LostRule | None = None,
        recovery: Recovery | None = None,
        reconnect: ReconnectPolicy | None = None,
        wait: float = WAIT_SECONDS,
    ) -> None:
        self._shared = SharedRuntime(runtime, wait)
        self._protocol, self._lost_rule, self._recovery = protocol, lost_rule, recovery
        self._reconnect = reconnect
        self._changed = threading.Condition()
        self._threads: dict[str, SourceThread] = {}
        self._waiting: deque[StreamFrame] = deque()
        self._closed = False
        self.failures: dict[str, Exception] = {}

    @property
    def sources(self) -> dict[str, str]:
        """By name, what each is doing: `running`, `stalled`, `reconnecting`, `ended`, `failed`."""
        with self._changed:
            return {name: thread.state for name, thread in self._threads.items()}

    def add_source(
        self,
        name: str,
        source: str | Path | Callable[[], FrameSource],
        boxes: Mapping[str, Box] | None = None,
        *,
        start: int = 0,
    ) -> None:
        """Open a source and follow targets in it; one that is over may be added again.

        Args:
            name: letters, digits, - and _.
            source: what `read_live` takes: a file, a folder, a camera, an address …
            boxes: by target name, where they are in its first frame: x, y, w, h in pixels.
            start: the number of the first frame to track.

        Raises:
            InputError: a name that is taken, no such source, too many targets, or a target's
                name that cannot be.
            SourceError: the source does not open.
        """
        check_source_name(name)
        starts = [TargetStart(box, check_name(n), start) for n, box in (boxes or {}).items()]
        with self._changed:
            if self._closed:
                raise InputError("the fleet is closed", fix="make another")
            if name in self._threads and not self._threads[name].ended:
                raise InputError(f"source {name!r} is there already", fix="choose another name")
            tracker = StreamTracker(
                self._shared.share(len(starts)),
                self._protocol,
                color="bgr",
                lost_rule=self._lost_rule,
                recovery=self._recovery,
            )
            thread = SourceThread(
                name,
                read_live(source, reconnect=self._reconnect),
                tracker,
                starts,
                first=start,
                on_tracks=lambda frame, tracks: self._put(thread, frame, tracks),
                on_change=lambda: self._note_end(thread),
            )
            self.failures.pop(name, None)
            self._threads[name] = thread
        thread.start()
        try:
            thread.wait_opened()
        except BaseException:
            self.remove_source(name)
            raise

    def remove_source(self, name: str) -> None:
        """Close a source and drop its frames that were not read yet.

        Raises:
            InputError: there is no such source.
        """
        thread = self._find(name)
        self._end([thread])
        with self._changed:
            self._threads.pop(name, None)
            self._waiting = deque(frame for frame in self._waiting if frame.source != name)
            self._changed.notify_all()

    def add_target(self, source: str, name: str, image: Frame, box: Box) -> None:
        """Follow one more target of a source from now on.

        Args:
            source: the source's name.
            name: the target's, which no other target of this source has.
            image: the frame of this source that the box is in, which may be an older one.
            box: x, y, w, h in pixels.

        Raises:
            InputError: no such source, a box or image that cannot be tracked, or too many targets.
        """
        self._find(source).add_target(image, TargetStart(box, check_name(name)))

    def remove_target(self, source: str, name: str) -> None:
        """Follow a target no longer.

        Raises:
            InputError: no such source or target.
        """
        self._find(source).remove_target(name)

    def read(self, timeout: float | None = None) -> StreamFrame | None:
        """The next frame of any source.

        Args:
            timeout: seconds to wait for it; without one, until there is a frame.

        Returns:
            The frame and its tracks; None when none came in time or every source is over.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not self._waiting:
                left = None if deadline is None else deadline - time.monotonic()
                if self._over or (left is not None and left <= 0):
                    return None
                self._changed.wait(left)
            self._changed.notify_all()
            return self._waiting.popleft()

    def close(self) -> None:
        """Close every source; closing twice is fine. The runtime is its opener's to close."""
        with self._changed:
            self._closed = True
            threads = list(self._threads.values())
        self._end(threads)
        with self._changed:
            self._threads.clear()
            self._waiting.clear()
            self._changed.notify_all()

    def __next__(self) -> StreamFrame:
        frame = self.read()
        if frame is None:
            raise StopIteration
        return frame

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def _over(self) -> bool:
        return all(thread.ended for thread in self._threads.values())

    def _find(self, name: str) -> SourceThread:
        with self._changed:
            if name not in self._threads:
                raise InputError(
                    "source", found=repr(name), expected=f"one of {list(self._threads)}"
                )
            return self._threads[name]

    def _put(
        self, thread: SourceThread, frame: FeedFrame, tracks: Mapping[int | str, Track]
    ) -> None:
        """Wait for room, so that a slow reader slows files down and makes cameras drop frames."""
        with self._changed:
            self._changed.wait_for(
                lambda: len(self._waiting) < MAX_WAITING or thread.stopping.is_set()
            )
            if not thread.stopping.is_set():
                self._waiting.append(
                    StreamFrame(thread.name, frame.number, frame.image, frame.time, tracks)
                )
                self._changed.notify_all()

    def _end(self, threads: list[SourceThread]) -> None:
        with self._changed:
            for thread in threads:
                thread.stop()
            self._changed.notify_all()
        for thread in threads:
            thread.join()

    def _note_end(self, thread: SourceThread) -> None:
        with self._changed:
            if thread.failure and self._threads.get(thread.name) is thread:
                self.failures[thread.name] = thread.failure
            self._changed.notify_all()
