"""The application behind the access control: page, recordings, and a WebSocket per viewer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from relo_edge.errors import InputError, ReloError
from relo_edge.serve.commands import Command, parse_command
from relo_edge.serve.limits import SEND_SECONDS
from relo_edge.serve.snapshots import Snapshot
from relo_edge.serve.viewers import Broadcaster, Viewer
from relo_edge.serve.worker import TrackingWorker

if TYPE_CHECKING:
    from concurrent.futures import Future
    from importlib.resources.abc import Traversable

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

    from relo_edge.geometry import Box
    from relo_edge.serve.page_finder import PageFinder

__all__ = ["build_app", "find_page_folder", "send_page_file"]

PAGE_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/finding.js": ("finding.js", "text/javascript"),
    "/line.js": ("line.js", "text/javascript"),
    "/plot.js": ("plot.js", "text/javascript"),
    "/stage.js": ("stage.js", "text/javascript"),
}

HEARTBEAT_SECONDS = 2.0
"""Silence after which a page is sent a heartbeat."""

TRY_AGAIN_LATER, POLICY_VIOLATION = 1013, 1008
"""WebSocket close codes."""


def build_app(
    worker: TrackingWorker, broadcaster: Broadcaster, finder: PageFinder | None
) -> Starlette:
    """The application; it must be reached through `AccessControl` only."""
    from starlette.applications import Starlette
    from starlette.routing import Route, WebSocketRoute

    folder = find_page_folder()
    routes = [
        Route(path, partial(send_page_file, (folder / name).read_bytes(), media_type))
        for path, (name, media_type) in PAGE_FILES.items()
    ]
    return Starlette(
        routes=[
            *routes,
            Route("/recordings/{name}", partial(_send_recording, worker)),
            WebSocketRoute("/live", partial(_serve_viewer, worker, broadcaster, finder)),
        ]
    )


def find_page_folder() -> Traversable:
    """Where the files of the page are."""
    return files("relo_edge.serve") / "page"


async def send_page_file(content: bytes, media_type: str, _request: Request) -> Response:
    """One of the page's own files."""
    from starlette.responses import Response

    return Response(content, media_type=media_type)


async def _send_recording(worker: TrackingWorker, request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import FileResponse, PlainTextResponse

    name = request.path_params["name"]
    path = await run_in_threadpool(worker.recordings.find, name)
    if path is None:
        return PlainTextResponse("relo-edge: no such recording\n", 404)
    return FileResponse(path, filename=name)


async def _serve_viewer(
    worker: TrackingWorker, broadcaster: Broadcaster, finder: PageFinder | None, socket: WebSocket
) -> None:
    viewer = broadcaster.join(small="small" in socket.query_params)
    if viewer is None:
        await socket.accept()
        await socket.close(TRY_AGAIN_LATER, "too many pages are open")
        return
    try:
        await socket.accept()
        viewer.send_event(worker.state)
        viewer.send_event({"type": "history", "samples": list(worker.times.history)})
        if finder is not None:
            viewer.send_event({"type": "finder"})
        handle = partial(_handle_message, viewer, worker, broadcaster, finder)
        sending = asyncio.create_task(_send_messages(socket, viewer))
        receiving = asyncio.create_task(_receive_messages(socket, viewer, handle))
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, receiving):
                task.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
    finally:
        broadcaster.leave(viewer)


async def _send_messages(socket: WebSocket, viewer: Viewer) -> None:
    from starlette.websockets import WebSocketDisconnect

    with contextlib.suppress(WebSocketDisconnect):
        while not viewer.gone:
            try:
                message = await asyncio.wait_for(viewer.next_message(), HEARTBEAT_SECONDS)
            except asyncio.TimeoutError:
                message = '{"type": "heartbeat"}'
            await asyncio.wait_for(_send(socket, message), SEND_SECONDS)


async def _send(socket: WebSocket, message: str | bytes) -> None:
    if isinstance(message, str):
        await socket.send_text(message)
    else:
        await socket.send_bytes(message)


async def _receive_messages(
    socket: WebSocket, viewer: Viewer, handle: Callable[[str | None], None]
) -> None:
    while (message := await socket.receive())["type"] == "websocket.receive":
        try:
            handle(message.get("text"))
        except ReloError as error:
            viewer.send_event({"type": "error", "id": None, "message": str(error)})
        if viewer.limiter.exhausted:
            await socket.close(POLICY_VIOLATION, "too many commands")
            return


def _handle_message(
    viewer: Viewer,
    worker: TrackingWorker,
    broadcaster: Broadcaster,
    finder: PageFinder | None,
    text: str | None,
) -> None:
    """Submit the command in a message; all but a true `seen` counts towards the rate limit."""
    try:
        command = parse_command(text)
    except ReloError:
        _limit_rate(viewer)
        raise
    if command.do == "seen":
        if not viewer.note_seen(command.picture):
            _limit_rate(viewer)
        return
    _limit_rate(viewer)
    snapshot = None if command.picture is None else viewer.find_snapshot(command.picture)
    reply = partial(_reply, broadcaster, viewer, command.id)
    if command.do == "find":
        _ask_finder(finder, command, snapshot).add_done_callback(reply)
    else:
        worker.submit(command, snapshot).add_done_callback(reply)


def _ask_finder(
    finder: PageFinder | None, command: Command, snapshot: Snapshot | None
) -> Future[Box]:
    if finder is None:
        raise InputError("this page has no finder", fix="start serve with --finder URL")
    if snapshot is None:
        raise InputError(f"picture {command.picture} is not held any more", fix="ask again")
    return finder.ask(snapshot.image, command.words or "")


def _limit_rate(viewer: Viewer) -> None:
    if not viewer.limiter.allow(time.monotonic()):
        raise InputError("too many commands at once", fix="wait a second")


def _reply(broadcaster: Broadcaster, viewer: Viewer, number: int | None, done: Future[Any]) -> None:
    """An error, the finder's box, or that it is done."""
    answer: dict[str, Any]
    if error := done.exception():
        answer = {"type": "error", "message": str(error)}
    elif box := done.result():
        answer = {"type": "found", "box": list(box)}
    else:
        answer = {"type": "done"}
    broadcaster.send_event(viewer, {**answer, "id": number})
