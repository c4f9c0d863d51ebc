"""Frames from files: videos, folders of images, and globs."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable, Sequence
from glob import glob
from pathlib import Path

import numpy as np

from relo_edge.errors import InputError, SourceError
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import PIXEL_LIMIT, cv2
from relo_edge.video.sources.frames import Frame, FrameSource, LengthCheck, grab_frame, read_rate

__all__ = ["IMAGE_SUFFIXES", "list_images", "open_folder", "open_glob", "open_video"]
__all__ += ["read_image", "read_images"]

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

IMAGE_FOLDERS = (".", "frames", "img", "imgs")
"""Where the images of a sequence folder may be."""

CONVERT = "copy it again, or convert it: ffmpeg -i IN OUT.mp4"

END_OF_IMAGE, START_OF_SCAN = b"\xff\xd9", b"\xff\xda"
"""JPEG markers: a thumbnail in the header has an end of its own, so the last scan's counts."""


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
    """The images that a pattern such as `walk/*.png` matches; other files are left out."""
    names = glob(pattern)  # noqa: PTH207  Path.glob takes no pattern that begins with /
    images = _sort_images(map(Path, names))
    if not images:
        raise InputError(
            f"no image matches the pattern {pattern!r}", fix="quote it, so that the shell leaves it"
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
            fix=CONVERT,
        )
    _check_frame_size(capture, path)
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


def _check_frame_size(capture: cv2.VideoCapture, path: Path) -> None:
    sides = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
    width, height = (int(capture.get(side)) for side in sides)
    if width * height > int(os.environ[PIXEL_LIMIT]):
        capture.release()
        raise SourceError(
            f"video {str(path)!r}",
            found=f"frames of {width}x{height}",
            expected=f"at most {os.environ[PIXEL_LIMIT]} pixels",
            fix=f"set another limit with {PIXEL_LIMIT}=N",
        )


def _sort_images(paths: Iterable[Path]) -> list[Path]:
    images = [
        path
        for path in paths
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    return sorted(images, key=_order_naturally)


def _order_naturally(path: Path) -> tuple[list[str | int], str]:
    # Splitting by digits makes text and numbers alternate, so that like is compared with like.
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def read_images(images: Sequence[Path]) -> Generator[Frame, None, None]:
    """The frames of these files, read one by one as they are asked for."""
    for path in images:
        yield read_image(path)


def read_image(path: Path, flag: int = cv2.IMREAD_COLOR) -> Frame:
    """One image, by one of OpenCV's colour flags, some of which read it at a smaller size.

    Raises:
        SourceError: no image, a truncated one, or one with more than the limit of pixels.
    """
    # These flags convert grey, 16-bit and transparent images to BGR uint8, and rotate photographs
    # to the way their camera was held.
    try:
        image = cv2.imread(str(path), flag) if path.is_file() else None
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" not in str(error):
            raise _refuse_image(path, _describe_file(path)) from None
        raise SourceError(
            f"image {str(path)!r} is too large",
            expected=f"at most {os.environ[PIXEL_LIMIT]} pixels",
            fix=f"set another limit with {PIXEL_LIMIT}=N",
        ) from None
    if image is None:
        raise _refuse_image(path, _describe_file(path))
    if _is_truncated_jpeg(path):
        raise _refuse_image(path, f"a JPEG without its end, {path.stat().st_size} bytes")
    return image.astype(np.uint8, copy=False)


def _refuse_image(path: Path, found: str) -> SourceError:
    fix = "replace it or take it out of the folder"
    return SourceError(f"image {str(path)!r} cannot be read", found=found, fix=fix)


def _is_truncated_jpeg(path: Path) -> bool:
    """Whether OpenCV filled the rest of the image with grey, of which it only warns."""
    content = path.read_bytes()
    return content[:2] == b"\xff\xd8" and END_OF_IMAGE not in content[_find_scan(content) :]


def _find_scan(content: bytes) -> int:
    """Where a JPEG's first scan begins: behind all headers, whose lengths are given."""
    at = 2
    while (marker := content[at : at + 2]) != START_OF_SCAN and marker[:1] == b"\xff":
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big") if marker != b"\xff\xff" else 1
    return at


def _read_video(
    capture: cv2.VideoCapture, path: Path, fps: float, count: int | None
) -> Generator[Frame, None, None]:
    length = LengthCheck(capture, fps, count)
    with silence_native_stderr():  # for the first alone: it keeps other threads' lines off as well
        frame = grab_frame(capture)
    while frame is not None:
        length.note_frame()
        yield frame
        frame = grab_frame(capture)
    if not length.read:
        raise SourceError(f"video {str(path)!r} has no frames that can be decoded", fix=CONVERT)
    length.check_end(f"video {str(path)!r}", "the file is damaged or was cut off: copy it again")


def _describe_file(path: Path) -> str:
    if not path.exists():
        return "no such file"
    if not path.is_file():
        return "a folder or another kind of file"
    return f"{path.stat().st_size} bytes that OpenCV cannot decode"
