"""The server around the tracker: address, token, threads, and an end that leaves nothing behind."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.host.signals import catch_interrupt
from relo_edge.serve.access import Gate
from relo_edge.serve.app import build_app
from relo_edge.serve.limits import CONNECTIONS, MESSAGE_BYTES, PATIENCE
from relo_edge.serve.snapshots import PictureMaker
from relo_edge.serve.viewers import Hub
from relo_edge.serve.worker import TrackingThread

if TYPE_CHECKING:
    import uvicorn

__all__ = ["PageServer", "ServeSummary", "serve_page"]

log = logging.getLogger("relo_edge")

WATCH_SECONDS = 0.2
START_SECONDS = 10.0

ELSEWHERE = ("192.0.2.1", 9)
"""An address that nobody has, by agreement."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeSummary:
    """What was done between start and Ctrl-C."""

    frames: int
    recordings: tuple[Path, ...]
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**vars(self), "recordings": [str(path) for path in self.recordings]}

    def describe(self) -> str:
        """The same for a reader."""
        return "\n".join([f"{self.frames} frames", *(f"wrote {path}" for path in self.recordings)])


def serve_page(tracking: TrackingThread, host: str, port: int) -> ServeSummary:
    """Serve until Ctrl-C; what goes wrong in the tracker ends the server with that error."""
    check_server()
    with PageServer(tracking, host, port) as server, catch_interrupt() as pressed:
        print(f"live page: {server.url}", file=sys.stderr, flush=True)
        while not pressed.wait(WATCH_SECONDS) and server.alive:
            pass
    if tracking.failure:
        raise tracking.failure
    return ServeSummary(tracking.frames, tuple(tracking.takes.made), pressed.is_set())


def check_server() -> None:
    """Say before anything is opened that the extra is missing."""
    try:
        import starlette
        import uvicorn
        import websockets
    except ImportError as error:
        raise MissingDependency(
            "the live page", found=error, fix="`pip install 'relo-edge[serve]'`"
        ) from None
    del starlette, uvicorn, websockets


class PageServer:
    """A running server; leaving the `with` ends every thread, and finishes every file."""

    def __init__(self, tracking: TrackingThread, host: str, port: int) -> None:
        self._tracking = tracking
        self._host = host
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self.token = None if host in LOOPBACK else secrets.token_urlsafe(24)
        self.hub = Hub()
        self._pictures = PictureMaker(self.hub.post, tracking.meter)
        self._ready = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._run, name="relo-edge-server")
        self._failure: BaseException | None = None

    @property
    def url(self) -> str:
        """The address to open, with the token where one is needed."""
        name = _name_host(self._host)
        query = f"/?token={self.token}" if self.token else "/"
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}{query}"

    @property
    def alive(self) -> bool:
        """False once the tracker or the server has ended."""
        return self._tracking.alive and self._thread.is_alive()

    def __enter__(self) -> PageServer:
        tracking, hub = self._tracking, self.hub
        tracking.on_shot, tracking.on_note = self._pictures.offer, hub.tell_all
        hub.on_count = lambda count: self._pictures.want(count > 0)
        try:
            tracking.start()
            self._pictures.start()
            self._thread.start()
            if not self._ready.wait(START_SECONDS) or self._failure:
                raise SourceError("the server does not start", found=self._failure)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Recordings first, then the pages; closing twice is fine."""
        self._tracking.close()
        self._pictures.close()
        if self._server:
            self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_note_trouble)
        self.hub.attach(loop)
        gate = Gate(build_app(self._tracking, self.hub), self.token, f"relo-edge-{self.port}")
        self._server = _build_server(gate)
        loop.call_soon(self._ready.set)
        await self._server.serve(sockets=[self._listener])


def _build_server(app: Gate) -> uvicorn.Server:
    import uvicorn

    config = uvicorn.Config(
        app,
        http=_build_protocol(),
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=5,
        ws_ping_timeout=10,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,  # its lines hold addresses, and so the token
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(PATIENCE),
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _build_protocol() -> type[asyncio.Protocol]:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(H11Protocol):
        """Too many connections are cut, and those that say nothing."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > CONNECTIONS:
                transport.abort()
            else:
                self.loop.call_later(PATIENCE, self._leave_silent)

        def _leave_silent(self) -> None:
            if not self.cycle and self.transport.get_protocol() is self:
                self.transport.abort()

    return Bounded


def _note_trouble(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """One line in place of asyncio's traceback: what a stranger sends must not fill the log."""
    log.debug("connection: %s", context.get("exception") or context.get("message"))


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind)
    except (OSError, OverflowError, UnicodeError) as error:
        expected = "an address of this machine"
        raise InputError(f"--host {host}", found=error, expected=expected) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise SourceError(
            f"{host}:{port} cannot be served", found=error.strerror, fix="choose another --port"
        ) from None
    return listener


def _name_host(host: str) -> str:
    """An address that others can open, in place of `all of them`."""
    if host not in ("0.0.0.0", "::", ""):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)  # sends nothing; only chooses which address of ours would
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
