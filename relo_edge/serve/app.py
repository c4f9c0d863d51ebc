"""What is behind the gate: the page, the finished recordings, and one socket for each viewer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING

from relo_edge.errors import InputError, ReloError
from relo_edge.serve.commands import parse_command
from relo_edge.serve.viewers import Hub, Viewer
from relo_edge.serve.worker import TrackingThread

if TYPE_CHECKING:
    from concurrent.futures import Future

    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

__all__ = ["build_app"]

PAGE = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    "/page.js": ("page.js", "text/javascript"),
    "/plot.js": ("plot.js", "text/javascript"),
    "/stage.js": ("stage.js", "text/javascript"),
}

HEARTBEAT = 2.0
"""Seconds of silence after which a page is told that the line still stands."""

SEND_SECONDS = 15.0
"""A page whose line takes no message for so long has gone; its place is another's."""

FULL, FLOOD = 1013, 1008
"""WebSocket's words for `try again later` and `you broke the rules`."""


def build_app(tracking: TrackingThread, hub: Hub) -> Starlette:
    """The application; nothing of it may be reached but through a gate."""
    from starlette.applications import Starlette
    from starlette.routing import Route, WebSocketRoute

    folder = files("relo_edge.serve") / "page"
    routes = [
        Route(path, partial(_show_file, (folder / name).read_bytes(), kind))
        for path, (name, kind) in PAGE.items()
    ]
    return Starlette(
        routes=[
            *routes,
            Route("/recordings/{name}", partial(_send_recording, tracking)),
            WebSocketRoute("/live", partial(_serve_viewer, tracking, hub)),
        ]
    )


async def _show_file(content: bytes, kind: str, _request: Request) -> Response:
    from starlette.responses import Response

    return Response(content, media_type=kind)


async def _send_recording(tracking: TrackingThread, request: Request) -> Response:
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import FileResponse, PlainTextResponse

    name = request.path_params["name"]
    path = await run_in_threadpool(tracking.takes.find, name)
    if path is None:
        return PlainTextResponse("relo-edge: no such recording\n", 404)
    return FileResponse(path, filename=name)


async def _serve_viewer(tracking: TrackingThread, hub: Hub, socket: WebSocket) -> None:
    viewer = hub.join()
    if viewer is None:
        await socket.accept()
        await socket.close(FULL, "too many pages are open")
        return
    try:
        await socket.accept()
        viewer.tell(tracking.state)
        viewer.tell({"type": "history", "samples": list(tracking.meter.history)})
        sending = asyncio.create_task(_send_messages(socket, viewer))
        listening = asyncio.create_task(_hear_messages(socket, viewer, tracking, hub))
        try:
            await asyncio.wait({sending, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, listening):
                task.cancel()
            await asyncio.gather(sending, listening, return_exceptions=True)
    finally:
        hub.leave(viewer)


async def _send_messages(socket: WebSocket, viewer: Viewer) -> None:
    from starlette.websockets import WebSocketDisconnect

    with contextlib.suppress(WebSocketDisconnect):
        while not viewer.gone:
            try:
                message = await asyncio.wait_for(viewer.next_message(), HEARTBEAT)
            except asyncio.TimeoutError:
                message = '{"type": "beat"}'
            await asyncio.wait_for(_send(socket, message), SEND_SECONDS)


async def _send(socket: WebSocket, message: str | bytes) -> None:
    if isinstance(message, str):
        await socket.send_text(message)
    else:
        await socket.send_bytes(message)


async def _hear_messages(
    socket: WebSocket, viewer: Viewer, tracking: TrackingThread, hub: Hub
) -> None:
    while (message := await socket.receive())["type"] == "websocket.receive":
        try:
            _act_on_message(message.get("text"), viewer, tracking, hub)
        except ReloError as error:
            viewer.tell({"type": "error", "id": None, "message": str(error)})
        if viewer.allowance.exhausted:
            await socket.close(FLOOD, "too many commands")
            return


def _act_on_message(text: str | None, viewer: Viewer, tracking: TrackingThread, hub: Hub) -> None:
    """Do what a message asks; all but the word that a picture is shown is rationed."""
    try:
        command = parse_command(text)
    except ReloError:
        _spend(viewer)
        raise
    if command.do == "seen":
        if not viewer.note_seen(command.picture):
            _spend(viewer)
        return
    _spend(viewer)
    shot = None if command.picture is None else viewer.find_shot(command.picture)
    tracking.submit(command, shot).add_done_callback(partial(_answer, hub, viewer, command.id))


def _spend(viewer: Viewer) -> None:
    if not viewer.allowance.take(time.monotonic()):
        raise InputError("commands", found="too many at once", fix="wait a second")


def _answer(hub: Hub, viewer: Viewer, number: int | None, done: Future[None]) -> None:
    error = done.exception()
    answer = {"type": "error", "message": str(error)} if error else {"type": "done"}
    hub.tell(viewer, {**answer, "id": number})
