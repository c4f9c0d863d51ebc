"""Video encoders: OpenCV's where it has the codec, else an ffmpeg child process."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from relo_edge.errors import SourceError
from relo_edge.host.native_stderr import hush_libraries
from relo_edge.host.opencv import cv2

if TYPE_CHECKING:
    from relo_edge.video.sources.frames import Frame

__all__ = ["Encoder", "open_encoder"]

log = logging.getLogger("relo_edge")

FOR_BROWSERS = {".mp4": "avc1", ".webm": "VP80"}
"""OpenCV's codecs that browsers play. pip's OpenCV has but the second, which is slow."""

FFMPEG_CODECS = {"libx264": "-preset veryfast -crf 20", "libopenh264": "-b:v 8M"}

LAST_RESORT = "mp4v"
"""Every OpenCV has it, and it is fast."""

EVEN = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
"""H.264 halves the colours' rows and columns."""


class Encoder(Protocol):
    """What takes frames until it is released."""

    def write(self, frame: Frame) -> object:
        """Append a frame."""

    def release(self) -> object:
        """Finish the file."""


def open_encoder(path: Path, fps: float, size: tuple[int, int]) -> Encoder:
    """The first encoder that opens, those that browsers can play before the others."""
    suffix = path.suffix.lower()
    if writer := _open_in_opencv(path, fps, size, FOR_BROWSERS[suffix]):
        return writer
    if suffix == ".mp4" and (child := _open_ffmpeg(path, fps, size)):
        return child
    if suffix == ".mp4" and (writer := _open_in_opencv(path, fps, size, LAST_RESORT)):
        log.warning(
            "the video is MPEG-4 Part 2, which browsers do not play: `apt-get install ffmpeg` "
            "makes it H.264; a name in .webm works without, slowly"
        )
        return writer
    raise SourceError(
        f"no encoder for a video of {size[0]}x{size[1]} at {fps:g} FPS",
        found="neither an OpenCV nor an ffmpeg with the codec, or a size they refuse",
        fix="`apt-get install ffmpeg` or `pip install opencv-python`",
    )


def _open_in_opencv(path: Path, fps: float, size: tuple[int, int], codec: str) -> Encoder | None:
    with hush_libraries():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
    if writer.isOpened():
        return writer
    # A try that failed may leave an empty file.
    path.unlink(missing_ok=True)
    return None


def _open_ffmpeg(path: Path, fps: float, size: tuple[int, int]) -> Encoder | None:
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    asked = [program, "-hide_banner", "-encoders"]
    known = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split()
    for codec, options in FFMPEG_CODECS.items():
        if codec in known:
            return _Ffmpeg(program, path, fps, size, ["-c:v", codec, *options.split()])
    return None


class _Ffmpeg:
    """A child process that is given raw frames; its complaints are kept for when it fails."""

    def __init__(
        self, program: str, path: Path, fps: float, size: tuple[int, int], codec: list[str]
    ) -> None:
        # A name may begin with a dash or look like a protocol; `file:` and / make it a name.
        target = f"file:{path.absolute()}"
        raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{size[0]}x{size[1]}", "-r", str(fps)]
        shape = ["-an", "-vf", EVEN, "-pix_fmt", "yuv420p", "-movflags", "+faststart"]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the child
        self._child = subprocess.Popen(
            [program, "-loglevel", "error", "-y", *raw, "-i", "-", *shape, *codec, target],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            start_new_session=True,  # a Ctrl-C is for us to pass on
        )

    def write(self, frame: Frame) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(frame.tobytes())
        except BrokenPipeError:
            self._fail()

    def release(self) -> None:
        if self._complaints.closed:
            return
        try:
            self._child.communicate()
            if self._child.returncode:
                self._fail()
        finally:
            self._complaints.close()

    def _fail(self) -> None:
        self._child.wait()
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        raise SourceError("ffmpeg stopped", found=lines[0].strip() or "no reason given")
