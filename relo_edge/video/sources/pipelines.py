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
"""People paste pipelines made for OpenCV; the sink is ours to choose."""

FROM_FILE = re.compile(r"\b(multi)?filesrc\b")
COUNTED = re.compile(r"\bnum-buffers=\d")
"""What has a proper end, which OpenCV does not tell from a break."""

TO_BGR = "videoconvert ! video/x-raw,format=BGR"

CSI_READERS = {"size": read_size, "fps": read_fps, "flip": read_count(0, 7)}


def open_pipeline(pipeline: str) -> FrameSource:
    """What a pipeline gives, written as after `gst-launch-1.0`, without a sink.

    A child process runs it where there is that command: it says why it does not start, tells an
    end from a break, and can be ended when it hangs. An OpenCV with GStreamer does none of that
    (4.6 waits for ever for an element that does not exist), and is for where the command is not.
    """
    words = _split_pipeline(pipeline)
    live = not FROM_FILE.search(pipeline)
    name = "pipeline {}".format(words[0] if words else "")
    if not has_command() and cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER):
        return _open_in_opencv(words, name, live, endless=live and not COUNTED.search(pipeline))
    launch = GstProcess([*words, "!", *TO_BGR.split()], name)
    return FrameSource(
        name,
        launch.frames(),
        launch.fps,
        release=launch.close,
        live=live,
        interrupt=launch.kill,
    )


def open_csi(source: str) -> FrameSource:
    """A Jetson's camera on the CSI connector: `csi:0` or `csi:0,size=1280x720,fps=60,flip=2`."""
    return open_pipeline(describe_csi(source))


def describe_csi(source: str) -> str:
    """The pipeline of a CSI camera: NVIDIA's source, its converter, and out of its memory."""
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
        words = shlex.split(OWN_SINK.sub("", pipeline))
    except ValueError as error:
        raise InputError("pipeline", found=f"{pipeline!r}: {error}") from None
    options = [word for word in words if word.startswith("-")]
    if options or not words:
        raise InputError(
            "pipeline",
            found=f"the option {options[0]}" if options else "no element",
            expected="elements such as v4l2src ! video/x-raw,width=1280",
        )
    return words


def _open_in_opencv(words: list[str], name: str, live: bool, endless: bool) -> FrameSource:
    drop = "true" if live else "false"
    sink = f"appsink max-buffers=1 drop={drop} sync=false"
    with silence_native_stderr():
        capture = cv2.VideoCapture(f"{' '.join(words)} ! {TO_BGR} ! {sink}", cv2.CAP_GSTREAMER)
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
