"""Many sources on one page: a wall of small pictures, each of which opens its source's own page."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from relo_edge.errors import InputError
from relo_edge.serve.app import find_page_folder, send_page_file
from relo_edge.serve.channel import Channel
from relo_edge.serve.worker import TrackingWorker

if TYPE_CHECKING:
    import asyncio

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from relo_edge.serve.page_finder import PageFinder

__all__ = ["Wall"]

WALL_FILES = {
    "/": ("wall.html", "text/html"),
    "/wall.css": ("wall.css", "text/css"),
    "/wall.js": ("wall.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
    "/line.js": ("line.js", "text/javascript"),
    "/stage.js": ("stage.js", "text/javascript"),
}


class Wall:
    """The channels by name; sources may be added and removed while the page is served."""

    def __init__(
        self, workers: Mapping[str, TrackingWorker], finder: PageFinder | None = None
    ) -> None:
        self._lock, self._finder = threading.Lock(), finder
        self._channels = {name: Channel(worker, finder) for name, worker in workers.items()}
        self._apps: dict[str, ASGIApp] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = self._closed = False

    @property
    def workers(self) -> list[TrackingWorker]:
        """The tracking threads, one for each source."""
        return [channel.worker for channel in self._list_channels()]

    @property
    def names(self) -> list[str]:
        """The sources, in the order in which they came."""
        with self._lock:
            return list(self._channels)

    def add(self, name: str, worker: TrackingWorker) -> None:
        """Open one more source and show it.

        Raises:
            InputError: there is a source of this name, or the wall is closed.
        """
        channel = Channel(worker, self._finder)
        with self._lock:
            if name in self._channels or self._closed:
                what = "the server is closing" if self._closed else f"source {name!r} is there"
                raise InputError(what, fix="choose another name")
            self._channels[name] = channel
            started, loop = self._started, self._loop
        if loop is not None:
            channel.attach(loop)
        if started:
            try:
                channel.start()
                channel.wait_opened()
            except BaseException:
                self.remove(name)
                raise

    def remove(self, name: str) -> None:
        """Close a source: its recording is finished, its page and picture are gone.

        Raises:
            InputError: there is no such source.
        """
        with self._lock:
            if name not in self._channels:
                expected = f"one of {list(self._channels)}"
                raise InputError("source", found=repr(name), expected=expected)
            channel = self._channels.pop(name)
            self._apps.pop(name, None)
        channel.close()
        channel.broadcaster.dismiss()

    def start(self) -> None:
        """Start every source's threads; `wait_opened` says what came of them."""
        self._started = True
        for channel in self._list_channels():
            channel.start()

    def wait_opened(self) -> None:
        """Return once every source is open or known to be away, or raise why one cannot be."""
        for channel in self._list_channels():
            channel.wait_opened()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Reach all viewers on this loop from now on."""
        self._loop = loop
        for channel in self._list_channels():
            channel.attach(loop)

    def close(self) -> None:
        """Close every source; closing twice is fine."""
        with self._lock:
            self._closed = True
        for channel in self._list_channels():
            channel.close()

    def build_app(self) -> ASGIApp:
        """The wall, and below it each source's page."""
        from starlette.applications import Starlette
        from starlette.routing import Mount, Route

        folder = find_page_folder()
        return Starlette(
            routes=[
                *(
                    Route(path, partial(send_page_file, (folder / name).read_bytes(), media_type))
                    for path, (name, media_type) in WALL_FILES.items()
                ),
                Route("/sources", self._send_names),
                Mount("/sources/{source}", app=self._pass_on),
            ]
        )

    async def _send_names(self, _request: Request) -> Response:
        from starlette.responses import JSONResponse

        return JSONResponse({"sources": self.names})

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """To the source's own application, which sees its part of the path."""
        from starlette.responses import PlainTextResponse

        app = self._find_app(scope["path_params"]["source"])
        if app is not None:
            await app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await PlainTextResponse("relo-edge: no such source\n", 404)(scope, receive, send)

    def _find_app(self, name: str) -> ASGIApp | None:
        with self._lock:
            if name in self._channels and name not in self._apps:
                self._apps[name] = self._channels[name].build_app()
            return self._apps.get(name)

    def _list_channels(self) -> list[Channel]:
        with self._lock:
            return list(self._channels.values())
