"""Frames from cameras on this machine and from streams in the network."""

from __future__ import annotations

import re
from collections.abc import Generator

import numpy as np

from relo_edge.errors import SourceError
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.video.sources.frames import Frame, FrameSource, grab_frame, read_rate

__all__ = ["STREAM", "hide_secrets", "open_camera", "open_stream"]

STREAM = re.compile(r"(rtsps?|rtmps?|https?|udp|srt)://", re.IGNORECASE)
"""How a stream's address begins."""

TIMEOUT_MS = 5000
"""How long a stream may keep us waiting, for its first word and for each frame."""


def open_camera(device: int | str) -> FrameSource:
    """A camera by its number, or by its path such as /dev/video0."""
    name = f"camera {device}"
    numbered = isinstance(device, int)
    unthinkable = isinstance(device, int) and device > np.iinfo(np.int32).max
    with silence_native_stderr():
        capture = None if unthinkable else cv2.VideoCapture(device)
    if capture is None or not capture.isOpened():
        fix = "`ls /dev/video*` lists cameras"
        raise SourceError(
            f"{name} does not open",
            found="no such camera, or one in use or not permitted",
            fix=f"{fix}; for a file of that name write ./{device}" if numbered else fix,
        )
    return _wrap_capture(capture, name)


def open_stream(url: str) -> FrameSource:
    """What a camera or server in the network sends; a film on a server is read as a file is."""
    name, backend, limits = hide_secrets(url), cv2.CAP_ANY, []
    if cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG):
        backend = cv2.CAP_FFMPEG
        properties = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC)
        limits = [number for entry in properties for number in (entry, TIMEOUT_MS)]
    with silence_native_stderr():
        capture = cv2.VideoCapture(url, backend, limits)
    if not capture.isOpened():
        raise SourceError(
            f"stream {name} does not open",
            found=f"no video within {TIMEOUT_MS // 1000} s",
            fix="is the address right, the camera on, the password in it?",
        )
    return _wrap_capture(capture, f"stream {name}")


def hide_secrets(url: str) -> str:
    """The address as it may be shown and logged: without user, password and query."""
    return re.sub(r"\?.*", "?…", re.sub(r"//[^/\s]*@", "//…@", url))


def _wrap_capture(capture: cv2.VideoCapture, name: str) -> FrameSource:
    announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(announced) if announced >= 1 else None
    return FrameSource(
        name,
        _read_capture(capture, name, count),
        read_rate(capture),
        count,
        capture.release,
        live=count is None,
        clock=lambda: capture.get(cv2.CAP_PROP_POS_MSEC) / 1000,
    )


def _read_capture(
    capture: cv2.VideoCapture, name: str, count: int | None
) -> Generator[Frame, None, None]:
    read = 0
    while (frame := grab_frame(capture)) is not None:
        read += 1
        yield frame
    if count is None:
        raise SourceError(
            f"{name} stopped", found=f"nothing after {read} frames", fix="reconnect it"
        )
