"""One source on the page: its tracking thread, its viewers, and the encoder between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relo_edge.serve.app import build_app
from relo_edge.serve.snapshots import SnapshotEncoder
from relo_edge.serve.viewers import Broadcaster
from relo_edge.serve.worker import TrackingWorker

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp

    from relo_edge.serve.page_finder import PageFinder

__all__ = ["Channel"]


class Channel:
    """Started and closed as one; the application is what its page is made of."""

    def __init__(self, worker: TrackingWorker, finder: PageFinder | None = None) -> None:
        self.worker, self._finder = worker, finder
        self.broadcaster = Broadcaster()
        self._encoder = SnapshotEncoder(self.broadcaster.publish_snapshot, worker.times)
        worker.on_snapshot = self._encoder.offer
        worker.on_event = self.broadcaster.publish_event
        self.broadcaster.on_count = lambda _: self._encoder.set_wanted(*self.broadcaster.sizes)

    @property
    def workers(self) -> list[TrackingWorker]:
        """The one there is."""
        return [self.worker]

    def build_app(self) -> ASGIApp:
        """Page, recordings and the line to the page."""
        return build_app(self.worker, self.broadcaster, self._finder)

    def start(self) -> None:
        """Start the threads; `wait_opened` says what came of it."""
        self.worker.start()
        self._encoder.start()

    def wait_opened(self) -> None:
        """Return once source and tracker are open, or raise why not."""
        self.worker.wait_opened()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reach the viewers on this loop from now on."""
        self.broadcaster.attach(loop)

    def close(self) -> None:
        """Finish recordings and end the threads; closing twice is fine."""
        self.worker.close()
        self._encoder.close()
