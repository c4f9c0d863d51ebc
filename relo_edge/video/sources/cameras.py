"""Frames from cameras on this machine and from network streams."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Generator
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import unquote, urlsplit

import numpy as np

from relo_edge.errors import SourceError
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.video.sources.frames import Frame, FrameSource, LengthCheck, grab_frame, read_rate

__all__ = ["STREAM", "hide_secrets", "open_camera", "open_stream"]

STREAM = re.compile(r"(rtsps?|rtmps?|https?|udp|srt)://", re.IGNORECASE)
"""How a stream's address begins."""

TIMEOUT_MS = 5000
"""How long a stream may take to answer, and for each frame."""

REASON = re.compile(r"^\[\w+ @ \w+\] (.+)$", re.MULTILINE)
"""What FFmpeg writes about a stream that does not open."""


def open_camera(device: int | str) -> FrameSource:
    """A camera by its number, or by its path such as /dev/video0."""
    name = f"camera {device}"
    numbered = isinstance(device, int)
    impossible = isinstance(device, int) and device > np.iinfo(np.int32).max
    with silence_native_stderr():
        capture = None if impossible else cv2.VideoCapture(device)
    if capture is None or not capture.isOpened():
        fix = "`ls /dev/video*` lists cameras"
        raise SourceError(
            f"{name} does not open",
            found="no such camera, or one in use or not permitted",
            fix=f"{fix}; for a file of that name write ./{device}" if numbered else fix,
        )
    return _wrap_capture(capture, name)


def open_stream(url: str) -> FrameSource:
    """A network camera's or server's stream; a video on a server is read as a file is."""
    name, backend, limits = hide_secrets(url), cv2.CAP_ANY, []
    if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        backend = cv2.CAP_FFMPEG
        properties = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        limits = [number for entry in properties for number in (entry, TIMEOUT_MS)]
    begin = time.monotonic()
    with silence_native_stderr() as read_messages:
        capture = cv2.VideoCapture(url, backend, limits)
        messages = read_messages()
    if not capture.isOpened():
        in_time = time.monotonic() - begin < 0.9 * TIMEOUT_MS / 1000
        reason = REASON.search(messages)
        found = _hide_in_message(reason[1].strip(), url) if reason else "no video in the answer"
        found = _ask_status(url) or found
        raise SourceError(
            f"stream {name} does not open",
            found=found if in_time else f"no video within {TIMEOUT_MS // 1000} s",
            fix="check the address, the password in it, and the camera",
        )
    return _wrap_capture(capture, f"stream {name}")


def hide_secrets(url: str) -> str:
    """An address as it may be shown and logged: without user, password and query."""
    return re.sub(r"\?.*", "?…", re.sub(r"//[^/\s]*@", "//…@", url))


def _ask_status(url: str) -> str | None:
    """The HTTP error that a server answers with, of which FFmpeg says nothing."""
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("http", "https") or parts.hostname is None:
            return None
        kind = HTTPSConnection if parts.scheme.lower() == "https" else HTTPConnection
        login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}".encode()
        headers = {"Authorization": f"Basic {b64encode(login).decode()}"} if parts.username else {}
        with closing(kind(parts.hostname, parts.port, timeout=TIMEOUT_MS / 1000)) as connection:
            query = f"?{parts.query}" if parts.query else ""
            connection.request("GET", f"{parts.path or '/'}{query}", headers=headers)
            answer = connection.getresponse()
            return f"HTTP {answer.status} {answer.reason[:40]}" if answer.status >= 400 else None
    except (OSError, HTTPException, ValueError):
        return None


def _hide_in_message(message: str, url: str) -> str:
    shown = re.sub(r"//[^/\s]*@", "//…@", message.replace(url, hide_secrets(url)))
    return re.sub(r"\?\S*", "?…", shown)


def _wrap_capture(capture: cv2.VideoCapture, name: str) -> FrameSource:
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    fps, count = read_rate(capture), int(announced) if announced >= 1 else None
    return FrameSource(
        name,
        _read_capture(capture, name, LengthCheck(capture, fps, count)),
        fps,
        count,
        capture.release,
        live=count is None,
        clock=lambda: capture.get(cv2.CAP_PROP_POS_MSEC) / 1000,
    )


def _read_capture(
    capture: cv2.VideoCapture, name: str, length: LengthCheck
) -> Generator[Frame, None, None]:
    while (frame := grab_frame(capture)) is not None:
        length.note_frame()
        yield frame
    if length.count is None:
        found = f"nothing after {length.read} frames"
        raise SourceError(f"{name} stopped", found=found, fix="reconnect it")
    length.check_end(name, "the connection broke off, or the file is damaged: try again")
