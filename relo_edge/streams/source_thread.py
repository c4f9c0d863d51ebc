"""One source on a thread of its own: opened, followed to its end, and closed there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing

from relo_edge.errors import InputError, ReloError, SourceError
from relo_edge.streams.metrics import SourceMeter
from relo_edge.streams.sharing import StreamTracker
from relo_edge.tracking.loop import FeedLoop, TrackSummary
from relo_edge.tracking.outputs import Sinks, Tracks
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.feed import Feed, FeedFrame
from relo_edge.video.live import LiveReader

__all__ = ["SourceThread"]

log = logging.getLogger("relo_edge")


class SourceThread:
    """Follows one source beside others; what ends it ends no other.

    Attributes:
        ended: whether its last frame has been followed and its outputs are finished.
        failure: the error that ended it, if one did.
        stopping: set once it is to end before the source does.
    """

    def __init__(
        self,
        name: str,
        reader: LiveReader,
        tracker: StreamTracker,
        starts: Sequence[TargetStart] = (),
        sinks: Sinks | None = None,
        *,
        first: int = 0,
        on_tracks: Callable[[FeedFrame, Tracks], object] | None = None,
        meter: SourceMeter | None = None,
        advance: Callable[[], object] = lambda: None,
        on_change: Callable[[], object] = lambda: None,
        may_begin: threading.Event | None = None,
    ) -> None:
        self.name, self.reader = name, reader
        self.failure: Exception | None = None
        self.ended = False
        self._tracker, self._advance, self._on_change = tracker, advance, on_change
        self._may_begin = may_begin
        self._feed = Feed(reader, first)
        self._loop = FeedLoop(self._feed, tracker, starts, sinks, on_tracks=on_tracks, meter=meter)
        self.stopping = threading.Event()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name=f"relo-edge-{name}")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def opened(self) -> bool:
        """Whether the source is open, or it is clear that it does not open."""
        return self._opened.done()

    def wait_opened(self) -> None:
        """Return once the source is open.

        Raises:
            SourceError: it does not open.
            InputError: there is no such source.
        """
        self._opened.result()

    @property
    def state(self) -> str:
        """What the source is doing: a reader's word, and how it ended."""
        if self.ended:
            return "failed" if self.failure else "ended"
        return self.reader.state

    def add_target(self, image: object, start: TargetStart) -> None:
        """Start a target in one of the source's frames."""
        if self.ended:
            raise InputError(f"source {self.name!r} is over", fix="add it again")
        self._loop.targets.add(image, start)  # type: ignore[arg-type]  # the tracker checks it

    def remove_target(self, name: int | str) -> None:
        """Stop following a target."""
        self._loop.targets.remove(name)

    def stop(self) -> None:
        """Ask the thread to end; its outputs are finished."""
        self.stopping.set()
        if self._may_begin:
            self._may_begin.set()

    def join(self) -> None:
        """Wait until it has ended; a source that gives nothing is closed."""
        if self._thread.ident is not None:
            if self.stopping.is_set():
                self.reader.close()
            self._thread.join()

    def summarize(self, interrupted: bool) -> TrackSummary:
        """What was done so far."""
        return self._loop.summarize(interrupted)

    def _run(self) -> None:
        try:
            with closing(self._tracker.runtime), self.reader:
                self._opened.set_result(None)
                self._on_change()
                if self._may_begin:
                    self._may_begin.wait()
                if not self.stopping.is_set():
                    self._follow()
        except Exception as error:
            if not self._opened.done():
                self._opened.set_exception(error)
            else:
                self.failure = error
                if isinstance(error, ReloError):
                    log.warning("source %s failed: %s", self.name, error)
        finally:
            self.ended = True
            self._on_change()

    def _follow(self) -> None:
        try:
            self._loop.begin()
        except SourceError:
            if self.stopping.is_set():
                return  # the source was closed before it gave a frame
            raise
        with self._loop.open_outputs() as outputs:
            self._loop.run(outputs, self.stopping, self._advance)
        self._loop.report_missed()
