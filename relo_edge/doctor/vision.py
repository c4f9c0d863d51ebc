"""Judge OpenCV: whether it works, whose it is, and which windows and videos it can open."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePath

from relo_edge.doctor.diagnosis import Finding
from relo_edge.doctor.evidence import Evidence, Package

__all__ = ["OPENCV_WHEELS", "find_wheel", "judge_opencv"]

OPENCV_WHEELS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)

_REINSTALL = "`pip uninstall -y opencv-python && pip install opencv-python`"


def judge_opencv(evidence: Evidence) -> Iterator[Finding]:
    """OpenCV, then what its build can do."""
    answer = evidence.answers["opencv"]
    if answer.failure:
        detail, _, fix = answer.failure.partition("; ")  # as every ReloError is written
        yield Finding("opencv", "opencv", "missing", detail, fix or _REINSTALL)
        return
    wheel = find_wheel(evidence)
    origin = f"wheel {wheel.name} {wheel.version}" if wheel else answer.facts["file"]
    yield Finding("opencv", "opencv", "ok", f"{answer.facts['version']}, {origin}")
    yield judge_gui(answer.facts["build"])
    yield from judge_videos(answer.facts["build"], evidence.gst_launch)


def find_wheel(evidence: Evidence) -> Package | None:
    """The wheel that the imported OpenCV came from; none for the system's or a self-built one."""
    place = PurePath(evidence.answers["opencv"].facts.get("file", ""))
    for package in evidence.packages:
        if package.name in OPENCV_WHEELS and PurePath(package.folder) in place.parents:
            return package
    return None


def judge_gui(build: str) -> Finding:
    """The window system this build draws with; a headless one has none."""
    backend = find_backend(build)
    if backend:
        return Finding("opencv", "gui", "ok", f"windows open with {backend}")
    detail = "not in this build (headless): `--show` cannot open a window"
    fix = "`pip uninstall -y opencv-python-headless && pip install opencv-python`"
    return Finding("opencv", "gui", "warning", detail, fix)


def find_backend(build: str) -> str:
    """The backend's name; old builds leave its heading empty and say YES below it."""
    heading = re.search(r"^\s*GUI:[ \t]*(\S*)", build, re.MULTILINE)
    named = heading[1] if heading else ""
    if named:
        return "" if named.upper() == "NONE" else named
    used = re.search(r"^\s*(QT|GTK\+|Win32 UI|Cocoa):\s+YES", build, re.MULTILINE)
    return used[1] if used else ""


def judge_videos(build: str, gst_launch: str) -> Iterator[Finding]:
    """FFmpeg opens files and RTSP; GStreamer opens pipelines, a Jetson's CSI camera among them."""
    if re.search(r"^\s*FFMPEG:\s+YES", build, re.MULTILINE):
        yield Finding("opencv", "ffmpeg", "ok", "video files and RTSP streams open")
    else:
        detail = "not in this build: most video files do not open"
        yield Finding("opencv", "ffmpeg", "warning", detail, "`pip install opencv-python`")
    yield judge_pipelines(build, gst_launch)


def judge_pipelines(build: str, gst_launch: str) -> Finding:
    """GStreamer's own command is taken where it is installed, else an OpenCV built with it."""
    if gst_launch:
        return Finding("opencv", "gstreamer", "ok", f"pipelines run in {gst_launch}")
    built_in = re.search(r"^\s*GStreamer:\s+YES(?: \((\S+)\))?", build, re.MULTILINE)
    if built_in:
        return Finding("opencv", "gstreamer", "ok", built_in[1] or "pipelines open")
    detail = (
        "no gst-launch-1.0, and not in this build of OpenCV: pipelines and CSI cameras do not open"
    )
    fix = "only if needed: `apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good`"
    return Finding("opencv", "gstreamer", "missing", detail, fix)
