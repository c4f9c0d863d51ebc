"""The pages that watch: each gets the newest picture when it is ready for it, and no other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from relo_edge.serve.limits import PICTURES_UNDERWAY, UNREAD_NOTES, VIEWERS, Allowance
from relo_edge.serve.snapshots import Shot

__all__ = ["Hub", "Viewer"]


class Viewer:
    """One page; used on the event loop's thread alone."""

    def __init__(self) -> None:
        self.allowance = Allowance()
        self.age: float | None = None
        """Seconds from a frame's capture to the page's word that it shows it."""
        self._notes: deque[str] = deque()
        self._next: Shot | None = None
        self._underway: dict[int, Shot] = {}
        self._shown: Shot | None = None
        self._wake = asyncio.Event()

    @property
    def gone(self) -> bool:
        """It takes nothing any more: what cannot be skipped has piled up."""
        return len(self._notes) > UNREAD_NOTES

    def tell(self, note: dict[str, Any]) -> None:
        """Queue what no page may miss."""
        self._notes.append(json.dumps(note))
        self._wake.set()

    def offer(self, shot: Shot) -> None:
        """Put the newest picture in the place of one not yet sent."""
        self._next = shot
        self._wake.set()

    def note_seen(self, number: int | None) -> bool:
        """The page shows this picture; False when it was not under way."""
        shot = None if number is None else self._underway.get(number)
        if shot is None:
            return False
        self.age = time.monotonic() - shot.captured
        self._shown = shot
        self._underway = {n: later for n, later in self._underway.items() if n > shot.number}
        self._wake.set()
        return True

    def find_shot(self, number: int) -> Shot | None:
        """The shot behind a picture that the page has or is about to get.

        A page that draws a box stops saying `seen`, and so keeps the picture it draws on.
        """
        if self._shown is not None and self._shown.number == number:
            return self._shown
        return self._underway.get(number)

    async def next_message(self) -> str | bytes:
        """What to send next, as soon as there is something."""
        while True:
            self._wake.clear()
            if self._notes:
                return self._notes.popleft()
            if self._next is not None and len(self._underway) < PICTURES_UNDERWAY:
                shot, self._next = self._next, None
                self._underway[shot.number] = shot
                return shot.message
            await self._wake.wait()


class Hub:
    """All viewers; `post` and `tell_all` may be called from any thread."""

    def __init__(self) -> None:
        self.viewers: set[Viewer] = set()
        self.on_count: Callable[[int], object] = lambda _: None
        """Hears how many watch whenever that changes."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest: Shot | None = None

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on there is a loop to deliver on."""
        self._loop = loop

    def join(self) -> Viewer | None:
        """A new viewer, who gets the latest picture at once; None when all places are taken."""
        if len(self.viewers) >= VIEWERS:
            return None
        viewer = Viewer()
        self.viewers.add(viewer)
        if self._latest is not None:
            viewer.offer(self._latest)
        self.on_count(len(self.viewers))
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Forget a viewer."""
        self.viewers.discard(viewer)
        if not self.viewers:
            self._latest = None  # nobody keeps it new
        self.on_count(len(self.viewers))

    def post(self, shot: Shot) -> None:
        """A picture for everyone."""
        self._soon(self._post, shot)

    def tell_all(self, note: dict[str, Any]) -> None:
        """A note for everyone."""
        self._soon(self._tell_all, note)

    def tell(self, viewer: Viewer, note: dict[str, Any]) -> None:
        """A note for one."""
        self._soon(viewer.tell, note)

    def _post(self, shot: Shot) -> None:
        self._latest = shot
        for viewer in self.viewers:
            viewer.offer(shot)

    def _tell_all(self, note: dict[str, Any]) -> None:
        for viewer in self.viewers:
            age = None if viewer.age is None else round(1e3 * viewer.age, 1)
            viewer.tell({**note, "shown_ms": age} if note["type"] == "sample" else note)

    def _soon(self, call: Callable[..., object], *arguments: object) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                self._loop.call_soon_threadsafe(call, *arguments)
