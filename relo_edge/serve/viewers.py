"""The open pages: each gets the newest snapshot when it is ready for it, and no other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from relo_edge.serve.limits import (
    MAX_QUEUED_EVENTS,
    MAX_VIEWERS,
    SNAPSHOTS_IN_FLIGHT,
    RateLimiter,
)
from relo_edge.serve.snapshots import Snapshot

__all__ = ["Broadcaster", "Viewer"]


class Viewer:
    """One page; used on the event loop's thread only."""

    def __init__(self, small: bool = False) -> None:
        self.small = small
        """Whether it gets small pictures, as one among many on a wall."""
        self.dismissed = False
        self.limiter = RateLimiter()
        self.delay: float | None = None
        """Seconds from a frame's capture to the page's message that it shows it."""
        self._events: deque[str] = deque()
        self._next: Snapshot | None = None
        self.in_flight: dict[int, Snapshot] = {}
        self._shown: Snapshot | None = None
        self._wake = asyncio.Event()

    @property
    def gone(self) -> bool:
        """Whether it reads nothing any more, as too many events wait for it; or has nothing to."""
        return self.dismissed or len(self._events) > MAX_QUEUED_EVENTS

    def send_event(self, event: dict[str, Any]) -> None:
        """Queue an event; none is skipped."""
        self._events.append(json.dumps(event))
        self._wake.set()

    def offer(self, snapshot: Snapshot) -> None:
        """Replace a snapshot that is not sent yet by the newest."""
        self._next = snapshot
        self._wake.set()

    def note_seen(self, number: int | None) -> bool:
        """Record that the page shows this picture; False if it was not in flight."""
        snapshot = None if number is None else self.in_flight.get(number)
        if snapshot is None:
            return False
        self.delay = time.monotonic() - snapshot.captured
        self._shown = snapshot
        self.in_flight = {n: later for n, later in self.in_flight.items() if n > snapshot.number}
        self._wake.set()
        return True

    def find_snapshot(self, number: int) -> Snapshot | None:
        """The snapshot behind a picture that the page has or is about to get.

        A page on which a box is being drawn stops sending `seen`, and so keeps its picture here.
        """
        if self._shown is not None and self._shown.number == number:
            return self._shown
        return self.in_flight.get(number)

    async def next_message(self) -> str | bytes:
        """The next message to send, as soon as there is one; events come first."""
        while True:
            self._wake.clear()
            if self._events:
                return self._events.popleft()
            if self._next is not None and len(self.in_flight) < SNAPSHOTS_IN_FLIGHT:
                snapshot, self._next = self._next, None
                self.in_flight[snapshot.number] = snapshot
                return snapshot.small_message if self.small else snapshot.message
            await self._wake.wait()


class Broadcaster:
    """Sends to all viewers; every `publish` and `send` method may be called from any thread."""

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.on_count: Callable[[int], object] = lambda _: None
        """Called with the number of viewers whenever it changes."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self.latest: Snapshot | None = None
        """The newest snapshot, for a viewer who joins."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver on this loop from now on."""
        self._loop = loop

    @property
    def sizes(self) -> tuple[bool, bool]:
        """Whether anybody gets full pictures, and whether anybody small ones."""
        small = sum(viewer.small for viewer in self.viewers)
        return len(self.viewers) > small, small > 0

    def join(self, small: bool = False) -> Viewer | None:
        """A new viewer, who is offered the latest snapshot; None when all places are taken."""
        if len(self.viewers) >= MAX_VIEWERS:
            return None
        viewer = Viewer(small)
        self.viewers.add(viewer)
        if self.latest is not None:
            viewer.offer(self.latest)
        self.on_count(len(self.viewers))
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self.viewers.discard(viewer)
        if not self.viewers:
            self.latest = None  # without a viewer nothing renews it
        self.on_count(len(self.viewers))

    def publish_snapshot(self, snapshot: Snapshot) -> None:
        """Offer a snapshot to everyone."""
        self._call_on_loop(self._offer_all, snapshot)

    def publish_event(self, event: dict[str, Any]) -> None:
        """Send an event to everyone."""
        self._call_on_loop(self._send_all, event)

    def send_event(self, viewer: Viewer, event: dict[str, Any]) -> None:
        """Send an event to one viewer."""
        self._call_on_loop(viewer.send_event, event)

    def dismiss(self) -> None:
        """The source is gone: end every viewer's line; it is noticed at the next heartbeat."""
        self._call_on_loop(self._dismiss_all)

    def _dismiss_all(self) -> None:
        for viewer in self.viewers:
            viewer.dismissed = True

    def _offer_all(self, snapshot: Snapshot) -> None:
        if self.viewers:  # the last may have left since it was encoded
            self.latest = snapshot
        for viewer in self.viewers:
            viewer.offer(snapshot)

    def _send_all(self, event: dict[str, Any]) -> None:
        for viewer in self.viewers:
            delay = None if viewer.delay is None else round(1e3 * viewer.delay, 1)
            own = {**event, "shown_ms": delay} if event["type"] == "sample" else event
            viewer.send_event(own)

    def _call_on_loop(self, call: Callable[..., object], *arguments: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and every page with it
                self._loop.call_soon_threadsafe(call, *arguments)
