"""Frames from GStreamer pipelines, and with them from a Jetson's CSI cameras."""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator
from typing import Any

from relo_edge.errors import InputError, SourceError
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.video.sources.frames import Frame, FrameSource, grab_frame, read_rate
from relo_edge.video.sources.gst_process import GstProcess, has_command
from relo_edge.video.sources.options import read_count, read_fps, read_options, read_size

__all__ = ["describe_csi", "open_csi", "open_pipeline"]

OWN_SINK = re.compile(r"!\s*appsink\b[^!]*$")
"""The sink of a pipeline written for OpenCV; ours takes its place."""

FILE_SOURCES = re.compile(
    r"\b(\w*filesrc|videotestsrc|imagesequencesrc|souphttpsrc|(uridecode|urisource|play)\w*)\b"
)
LIVE_SOURCES = re.compile(r"\bis-live=(true|1)\b|\b(rtsps?|rtmps?|udp|srt|rtp)://", re.IGNORECASE)
"""How to tell a file from a camera where no gst-launch-1.0 is there to say."""

COUNTED = re.compile(r"\bnum-buffers=\d")
"""A proper end, which OpenCV does not tell from a break."""

TO_BGR = "videoconvert ! video/x-raw,format=BGR"

CSI_READERS = {"size": read_size, "fps": read_fps, "flip": read_count(0, 7)}


def open_pipeline(pipeline: str) -> FrameSource:
    """The frames of a pipeline, written as for `gst-launch-1.0`, without a sink.

    That command runs it where it is installed: it says why a pipeline does not start and whether
    it is live, tells an end from a break, and can be killed when it hangs. An OpenCV with
    GStreamer does none of that (4.6 waits for ever for an unknown element): it is the fallback.
    """
    arguments = _split_pipeline(pipeline)
    name = f"pipeline {arguments[0]}"
    if not has_command() and cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        live = not FILE_SOURCES.search(pipeline) or bool(LIVE_SOURCES.search(pipeline))
        endless = live and not COUNTED.search(pipeline)
        return _open_in_opencv(arguments, name, live, endless)
    process = GstProcess([*arguments, "!", *TO_BGR.split()], name)
    return FrameSource(
        name,
        process.frames(),
        process.fps,
        release=process.close,
        live=process.live,
        interrupt=process.kill,
    )


def open_csi(source: str) -> FrameSource:
    """A Jetson's CSI camera: `csi:0` or `csi:0,size=1280x720,fps=60,flip=2`."""
    return open_pipeline(describe_csi(source))


def describe_csi(source: str) -> str:
    """The pipeline of a CSI camera: NVIDIA's source and the conversion out of its memory."""
    sensor, _, text = source.partition(":")[2].partition(",")
    if not sensor.isdecimal() or len(sensor) > 2:
        raise InputError(f"source {source!r}", found=repr(sensor), expected="a sensor as in csi:0")
    chosen: Any = read_options(source, text, CSI_READERS)
    width, height = chosen.get("size", (1920, 1080))
    return (
        f"nvarguscamerasrc sensor-id={int(sensor)} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},"
        f"framerate={round(chosen.get('fps', 30))}/1 ! "
        f"nvvidconv flip-method={chosen.get('flip', 0)} ! video/x-raw,format=BGRx"
    )


def _split_pipeline(pipeline: str) -> list[str]:
    try:
        arguments = shlex.split(OWN_SINK.sub("", pipeline))
    except ValueError as error:
        raise InputError(f"pipeline {pipeline!r}", found=error) from None
    options = [argument for argument in arguments if argument.startswith("-")]
    if options or not arguments:
        raise InputError(
            "pipeline",
            found=f"the option {options[0]}" if options else "no element",
            expected="elements such as v4l2src ! video/x-raw,width=1280",
        )
    return arguments


def _open_in_opencv(arguments: list[str], name: str, live: bool, endless: bool) -> FrameSource:
    drop = "true" if live else "false"
    sink = f"appsink max-buffers=1 drop={drop} sync=false"
    with silence_native_stderr():
        capture = cv2.VideoCapture(f"{' '.join(arguments)} ! {TO_BGR} ! {sink}", cv2.CAP_GSTREAMER)
    if not capture.isOpened():
        raise SourceError(
            f"{name} does not start",
            found="no reason given by OpenCV",
            fix="try it with gst-launch-1.0 and `! fakesink`",
        )
    frames = _read_capture(capture, name, endless)
    return FrameSource(name, frames, read_rate(capture), release=capture.release, live=live)


def _read_capture(capture: cv2.VideoCapture, name: str, live: bool) -> Generator[Frame, None, None]:
    while (frame := grab_frame(capture)) is not None:
        yield frame
    if live:
        raise SourceError(f"{name} stopped", fix="reconnect the camera")
