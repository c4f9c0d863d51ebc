"""The server around the tracker: address, token, threads, and a clean end."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.host.signals import catch_interrupt
from relo_edge.serve.access import AccessControl
from relo_edge.serve.channel import Channel
from relo_edge.serve.health import HealthApp
from relo_edge.serve.http_protocol import build_protocol
from relo_edge.serve.limits import IDLE_SECONDS, MESSAGE_BYTES
from relo_edge.serve.wall import Wall
from relo_edge.serve.worker import TrackingWorker

if TYPE_CHECKING:
    import uvicorn

__all__ = ["PageServer", "ServeSummary", "announce_page", "serve_page"]

log = logging.getLogger("relo_edge")

POLL_SECONDS = 0.2
START_SECONDS = 10.0

UNROUTED = ("192.0.2.1", 9)
"""An address reserved for documentation: nobody has it."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class ServeSummary:
    """What happened between start and Ctrl-C."""

    url: str
    """The address of the page, with its token where one was needed."""
    frames: int
    recordings: tuple[Path, ...]
    interrupted: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**vars(self), "recordings": [str(path) for path in self.recordings]}

    def describe(self) -> str:
        """The same for a reader."""
        return "\n".join([f"{self.frames} frames", *(f"wrote {path}" for path in self.recordings)])


def announce_page(url: str) -> None:
    """Tell a reader; stdout stays the result's."""
    print(f"live page: {url}", file=sys.stderr, flush=True)


def serve_page(
    shown: TrackingWorker | Channel | Wall,
    host: str,
    port: int,
    announce: Callable[[str], None] = announce_page,
) -> ServeSummary:
    """Serve until Ctrl-C; an error in a tracker ends the server and is raised.

    `announce` gets the page's address once it can be opened.
    """
    check_server()
    with PageServer(shown, host, port) as server, catch_interrupt() as pressed:
        announce(server.url)
        while not pressed.wait(POLL_SECONDS) and server.alive:
            pass
    workers = server.site.workers
    for worker in workers:
        if worker.failure:
            raise worker.failure
    recordings = tuple(path for worker in workers for path in worker.recordings.made)
    frames = sum(worker.frames for worker in workers)
    return ServeSummary(server.url, frames, recordings, pressed.is_set())


def check_server() -> None:
    """Raise before anything is opened if the extra is missing."""
    try:
        import starlette
        import uvicorn
        import websockets
    except ImportError as error:
        raise MissingDependency(
            f"the live page needs {error.name}, which is not installed",
            fix="`pip install 'relo-edge[serve]'`",
        ) from None
    del starlette, uvicorn, websockets


class PageServer:
    """The server; leaving its `with` block ends every thread and finishes every file."""

    def __init__(self, shown: TrackingWorker | Channel | Wall, host: str, port: int) -> None:
        self.site = Channel(shown) if isinstance(shown, TrackingWorker) else shown
        self._host = host
        self._listener = _listen(host, port)
        self.port: int = self._listener.getsockname()[1]
        self.token = None if host in LOOPBACK else secrets.token_urlsafe(24)
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
        alive = all(worker.alive for worker in self.site.workers)
        return alive and self._thread.is_alive()

    def __enter__(self) -> PageServer:
        try:
            self.site.start()
            self.site.wait_opened()
            self._thread.start()
            if not self._ready.wait(START_SECONDS) or self._failure:
                raise SourceError("the server does not start", found=self._failure or "no answer")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Finish recordings, then close the pages; closing twice is fine."""
        self.site.close()
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
        loop.set_exception_handler(_log_exception)
        self.site.attach(loop)
        healthy = HealthApp(self.site.build_app(), lambda: self.site.workers)
        app = AccessControl(healthy, self.token, f"relo-edge-{self.port}")
        self._server = _build_server(app)
        loop.call_soon(self._ready.set)
        await self._server.serve(sockets=[self._listener])


def _build_server(app: AccessControl) -> uvicorn.Server:
    import uvicorn

    config = uvicorn.Config(
        app,
        http=build_protocol(),
        ws="websockets-sansio",
        ws_max_size=MESSAGE_BYTES,
        ws_ping_interval=5,
        ws_ping_timeout=10,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        log_level=logging.CRITICAL,  # its lines hold URLs, and so the token
        access_log=False,
        server_header=False,
        timeout_keep_alive=int(IDLE_SECONDS),
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)


def _log_exception(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """One debug line in place of asyncio's traceback: a stranger must not fill the log."""
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
    """An address that others can open, in place of `all addresses`."""
    if host not in ("0.0.0.0", "::", ""):
        return host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(UNROUTED)  # sends nothing: it only picks the address we would send from
        except OSError:
            return socket.gethostname()
        return str(probe.getsockname()[0])
