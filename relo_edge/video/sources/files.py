"""Frames from files: videos, folders of images, and globs."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Sequence
from glob import glob
from pathlib import Path

import numpy as np

from relo_edge.errors import InputError, SourceError
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.video.sources.frames import Frame, FrameSource, grab_frame, read_rate

__all__ = ["IMAGE_SUFFIXES", "list_images", "open_folder", "open_glob", "open_video"]
__all__ += ["read_image", "read_images"]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

IMAGE_FOLDERS = (".", "frames", "img", "imgs")
"""Where the images of a sequence folder may lie."""

WHOLE = 0.95
"""The share of the announced length that a video must reach: lengths in headers are estimates."""


def list_images(folder: Path) -> list[Path]:
    """A sequence folder's images in the order of their names, frame 10 after frame 9."""
    for place in IMAGE_FOLDERS:
        if images := _sort_images((folder / place).glob("*")):
            return images
    raise InputError(
        f"folder {str(folder)!r}",
        found="no images",
        expected="{} in it, in frames/, img/ or imgs/".format(" ".join(IMAGE_SUFFIXES)),
    )


def open_folder(folder: Path) -> FrameSource:
    """The images of a folder, one after the other."""
    images = list_images(folder)
    return FrameSource(folder.resolve().name, read_images(images), frame_count=len(images))


def open_glob(pattern: str) -> FrameSource:
    """The images that a pattern such as `walk/*.png` names; what else it names is left out."""
    names = glob(pattern)  # noqa: PTH207  Path.glob takes no pattern that begins with /
    images = _sort_images(map(Path, names))
    if not images:
        raise InputError(
            f"source {pattern!r}", found="no image of that pattern", expected="at least one"
        )
    return FrameSource(pattern, read_images(images), frame_count=len(images))


def open_video(path: Path) -> FrameSource:
    """The frames of a video file."""
    with silence_native_stderr():
        # A relative name with a colon in it would be taken for a protocol.
        capture = cv2.VideoCapture(str(path.absolute()))
    if not capture.isOpened():
        raise SourceError(
            f"video {str(path)!r} cannot be opened",
            found=_describe_file(path),
            expected="a whole video file",
            fix="copy it again, or convert it: ffmpeg -i IN OUT.mp4",
        )
    fps, announced = read_rate(capture), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(announced) if announced >= 1 else None
    return FrameSource(
        path.name,
        _read_video(capture, path, fps, count),
        fps,
        count,
        capture.release,
        clock=lambda: capture.get(cv2.CAP_PROP_POS_MSEC) / 1000,
    )


def _sort_images(paths: Iterable[Path]) -> list[Path]:
    images = [
        path
        for path in paths
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(images, key=_order_naturally)


def _order_naturally(path: Path) -> tuple[list[str | int], str]:
    # Splitting by digits makes texts and numbers alternate, so like meets like.
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def read_images(images: Sequence[Path]) -> Generator[Frame, None, None]:
    """The frames of these files, read one by one as they are asked for."""
    for path in images:
        yield read_image(path)


def read_image(path: Path, flag: int = cv2.IMREAD_COLOR) -> Frame:
    """One image by one of OpenCV's flags for colour, most of which read it at a smaller size."""
    # These flags make grey, 16-bit and transparent images BGR uint8, and turn photographs the way
    # their camera was held.
    image = cv2.imread(str(path), flag) if path.is_file() else None
    if image is None:
        raise SourceError(
            f"image {str(path)!r} cannot be read",
            found=_describe_file(path),
            fix="replace it or take it out of the folder",
        )
    return image.astype(np.uint8, copy=False)


def _read_video(
    capture: cv2.VideoCapture, path: Path, fps: float, count: int | None
) -> Generator[Frame, None, None]:
    read, reached = 0, 0.0
    while (frame := grab_frame(capture)) is not None:
        read += 1
        reached = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 * fps + 1
        yield frame
    if not read:
        raise SourceError(f"video {str(path)!r}", found="no frames", expected="at least one")
    # A variable frame rate makes the count a guess and sound can outlast the picture, so a
    # video is whole by either measure: frames, or time.
    if count and max(read, reached) < WHOLE * count:
        raise SourceError(
            f"video {str(path)!r} ends early",
            found=f"{read} frames",
            expected=f"about {count}",
            fix="the file is damaged or was cut off: copy it again",
        )


def _describe_file(path: Path) -> str:
    if not path.exists():
        return "no such file any more"
    if not path.is_file():
        return "a folder, or something else that is no file"
    return f"{path.stat().st_size} bytes that OpenCV cannot decode"
