"""Video encoders whose files can be played at each moment, so that a kill costs a second."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from relo_edge.errors import SourceError
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.host.terminal import escape_controls

if TYPE_CHECKING:
    from relo_edge.video.sources.frames import Frame

__all__ = ["VideoEncoder", "copy_to_mp4", "open_encoder"]

log = logging.getLogger("relo_edge")

FFMPEG_CODECS = {"libx264": "-preset veryfast -crf 20", "libopenh264": "-b:v 8M"}

OPENCV_CODECS = {".mp4": ("avc1", "mp4v"), ".webm": ("VP80",)}
"""The first that opens. pip's OpenCV has no avc1; every OpenCV has mp4v, and VP80 is slow."""

BROWSER_CODECS = ("avc1", "VP80")

EVEN_SIZE = "pad=ceil(iw/2)*2:ceil(ih/2)*2"
"""H.264 halves the colours' rows and columns."""

FRAGMENTED = "+frag_keyframe+empty_moov+default_base_moof"
"""An mp4 that is whole up to its last key frame, at each moment."""


class VideoEncoder(Protocol):
    """Takes frames until it is released."""

    path: Path
    """The file being written."""
    must_copy: bool
    """Whether the file's container differs from the one asked for: see `copy_to_mp4`."""

    def write(self, frame: Frame) -> object:
        """Append a frame."""

    def release(self) -> object:
        """Finish the file."""


def open_encoder(base: Path, suffix: str, fps: float, size: tuple[int, int]) -> VideoEncoder:
    """The first encoder that opens, those that browsers can play before the others.

    It writes to `base` with the suffix of its container.
    """
    if suffix == ".mp4" and (child := _open_ffmpeg(base.with_suffix(suffix), fps, size)):
        return child
    for codec in OPENCV_CODECS[suffix]:
        if encoder := _open_in_opencv(base, suffix, fps, size, codec):
            if codec not in BROWSER_CODECS:
                log.warning(
                    "the video is MPEG-4 Part 2, which browsers do not play: `apt-get install "
                    "ffmpeg` makes it H.264; a name in .webm works without, slowly"
                )
            return encoder
    raise SourceError(
        f"no encoder for a video of {size[0]}x{size[1]} at {fps:g} FPS",
        found="neither OpenCV nor ffmpeg with a codec for it",
        fix="`apt-get install ffmpeg` or `pip install opencv-python`",
    )


def copy_to_mp4(source: Path, target: Path) -> None:
    """Copy a video's stream into an mp4 with its index in front; nothing is encoded again."""
    program = shutil.which("ffmpeg")
    if program is None:
        _copy_in_opencv(source, target)
        return
    options = ["-c", "copy", "-movflags", "+faststart", f"file:{target.absolute()}"]
    command = [program, "-loglevel", "error", "-y", "-i", f"file:{source.absolute()}", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, errors="replace")
    if done.returncode:
        raise SourceError("ffmpeg cannot finish the video", found=_first_line(done.stderr))


class _OpenCvEncoder:
    """OpenCV's writer; it takes an mp4's frames into Matroska, which needs no end to be read."""

    def __init__(self, writer: cv2.VideoWriter, path: Path, must_copy: bool) -> None:
        self._writer, self.path, self.must_copy = writer, path, must_copy

    def write(self, frame: Frame) -> None:
        self._writer.write(frame)

    def release(self) -> None:
        self._writer.release()


def _open_in_opencv(
    base: Path, suffix: str, fps: float, size: tuple[int, int], codec: str
) -> VideoEncoder | None:
    # OpenCV before 4.8 cannot copy a stream: there a killed run does lose its mp4.
    copies = hasattr(cv2, "VIDEOWRITER_PROP_KEY_FLAG") and _has_ffmpeg_backend()
    must_copy = suffix == ".mp4" and copies
    path = base.with_suffix(".mkv" if must_copy else suffix)
    with silence_native_stderr():
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, size)
    if writer.isOpened():
        return _OpenCvEncoder(writer, path, must_copy)
    # A failed attempt may leave an empty file.
    path.unlink(missing_ok=True)
    return None


def _has_ffmpeg_backend() -> bool:
    return bool(cv2.videoio_registry.hasBackend(cv2.CAP_FFMPEG))


def _copy_in_opencv(source: Path, target: Path) -> None:
    """Packet by packet; the codec's header has to stand before the first."""
    raw = [cv2.CAP_PROP_FORMAT, -1]
    with silence_native_stderr():
        capture = cv2.VideoCapture(str(source.absolute()), cv2.CAP_FFMPEG, raw)
        code, fps = int(capture.get(cv2.CAP_PROP_FOURCC)), capture.get(cv2.CAP_PROP_FPS)
        size = [int(capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)]
        as_packets = [cv2.VIDEOWRITER_PROP_RAW_VIDEO, 1]
        writer = cv2.VideoWriter(
            str(target.absolute()), cv2.CAP_FFMPEG, code, fps, size, as_packets
        )
        if not capture.isOpened() or not writer.isOpened():
            raise SourceError("OpenCV cannot finish the video", fix="`apt-get install ffmpeg`")
        _copy_packets(capture, writer)
        capture.release()
        writer.release()


def _copy_packets(capture: cv2.VideoCapture, writer: cv2.VideoWriter) -> None:
    header: Any = capture.retrieve(flag=int(capture.get(cv2.CAP_PROP_CODEC_EXTRADATA_INDEX)))[1]
    while True:
        more, packet = capture.read()
        if not more:
            return
        writer.set(cv2.VIDEOWRITER_PROP_KEY_FLAG, capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME))
        if header is not None:
            packet, header = cv2.hconcat([header, packet]), None
        writer.write(packet)


def _open_ffmpeg(path: Path, fps: float, size: tuple[int, int]) -> VideoEncoder | None:
    program = shutil.which("ffmpeg")
    if program is None:
        return None
    command = [program, "-hide_banner", "-encoders"]
    known = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    for codec, options in FFMPEG_CODECS.items():
        if codec in known:
            return _FfmpegEncoder(program, path, fps, size, ["-c:v", codec, *options.split()])
    return None


class _FfmpegEncoder:
    """A child process that reads raw frames; its error output is kept for when it fails."""

    must_copy = False

    def __init__(
        self, program: str, path: Path, fps: float, size: tuple[int, int], codec: list[str]
    ) -> None:
        self.path = path
        raw = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{size[0]}x{size[1]}", "-r", str(fps)]
        shape = ["-an", "-vf", EVEN_SIZE, "-pix_fmt", "yuv420p", "-g", str(max(1, round(fps)))]
        # A name may begin with a dash or look like a protocol; `file:` and / make it a name.
        target = ["-movflags", FRAGMENTED, "-flush_packets", "1", f"file:{path.absolute()}"]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the child
        self._child = subprocess.Popen(
            [program, "-loglevel", "error", "-y", *raw, "-i", "-", *shape, *codec, *target],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,  # Ctrl-C is for the parent to pass on
        )

    def write(self, frame: Frame) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(frame.tobytes())
        except BrokenPipeError:
            self._fail()

    def release(self) -> None:
        if self._errors.closed:
            return
        try:
            self._child.communicate()
            if self._child.returncode:
                self._fail()
        finally:
            self._errors.close()

    def _fail(self) -> None:
        self._child.wait()
        self._errors.seek(0)
        text = self._errors.read().decode(errors="replace")
        raise SourceError("ffmpeg stopped", found=_first_line(text))


def _first_line(text: str) -> str:
    return escape_controls(text.strip().split("\n")[0].strip()) or "no reason given"
