"""`open_source`: files, cameras, streams and pipelines, all read the same way."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from relo_edge.errors import InputError
from relo_edge.synthetic.clip import RATE
from relo_edge.synthetic.demo_clip import DEMO, is_demo, make_demo_clip
from relo_edge.video.sources.cameras import STREAM, open_camera, open_stream
from relo_edge.video.sources.files import (
    IMAGE_SUFFIXES,
    list_images,
    open_folder,
    open_glob,
    open_video,
    read_images,
)
from relo_edge.video.sources.frames import Frame, FrameSource
from relo_edge.video.sources.pipelines import open_csi, open_pipeline
from relo_edge.video.sources.synthetic_camera import open_synthetic

__all__ = ["IMAGE_SUFFIXES", "Frame", "FrameSource", "list_images", "open_demo", "open_source"]
__all__ += ["read_images"]

SCHEMES = {"synthetic": open_synthetic, "csi": open_csi}
"""Sources with a name before a colon and options after it."""

MAX_NAME_LENGTH = 4096

EXPECTED = (
    "a video file, a folder or glob of images, a camera number, csi:0, an rtsp:// address, "
    "synthetic:, demo, or a GStreamer pipeline with ! in it"
)


def open_source(source: str) -> FrameSource:
    """The frames of a source by its name; an existing file or folder of that name comes first."""
    _check_name(source)
    if source.isdecimal() and source.isascii():
        return open_camera(int(source))
    path = Path(source)
    if _exists(path):
        return _open_path(path)
    if is_demo(source):
        return open_demo()
    scheme, colon, _ = source.partition(":")
    if colon and scheme in SCHEMES:
        return SCHEMES[scheme](source)
    if STREAM.match(source):
        return open_stream(source)
    if "!" in source:
        return open_pipeline(source)
    if re.search(r"[*?[]", source):
        return open_glob(source)
    raise InputError(f"source {source!r}", found="no such file or folder", expected=EXPECTED)


def open_demo() -> FrameSource:
    """The synthetic clip of `relo-edge demo`."""
    clip = make_demo_clip()
    return FrameSource(DEMO, clip.frames(), RATE, len(clip))


def _check_name(source: str) -> None:
    """Refuse names that no file has and no error line can show."""
    if not source.strip() or len(source) > MAX_NAME_LENGTH:
        raise InputError("source", found=f"a name of {len(source)} characters", expected=EXPECTED)
    # Control characters, and surrogates that stand for bytes that are not text.
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in source):
        raise InputError("source", found=ascii(source), expected="printable characters")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a part of the name is too long for this disk, or not accessible
        return False


def _open_path(path: Path) -> FrameSource:
    if path.is_dir():
        return open_folder(path)
    if path.is_char_device() and path.name.startswith("video"):
        return open_camera(str(path))
    if not path.is_file():
        # Reading a pipe or a terminal may never return.
        raise InputError(f"source {str(path)!r}", found="no regular file", expected=EXPECTED)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"source {str(path)!r}",
            found="a single image",
            expected="a video or a folder of images",
            fix=f"pass the folder {str(path.parent)!r}",
        )
    return open_video(path)
