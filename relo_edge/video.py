"""Frames in: a video file, a folder of images or a camera, all read the same way."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, SourceError
from relo_edge.opencv import cv2
from relo_edge.quiet import hush_libraries

__all__ = ["IMAGE_SUFFIXES", "Frame", "FrameSource", "list_images", "open_source", "read_images"]

Frame = NDArray[np.uint8]
"""[height, width, 3], blue first."""

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

IMAGE_FOLDERS = (".", "frames", "img", "imgs")
"""Where the images of a sequence folder may lie."""

USUAL_FPS = 30.0
"""The rate of a source that names none, such as a folder."""

WHOLE = 0.95
"""The share of the announced length that a video must reach: lengths in headers are estimates."""


def _hold_nothing() -> None:
    """Sources that hold nothing between frames have nothing to give back."""


@dataclass
class FrameSource(Iterator[Frame]):
    """Frames in order, with what is known about them; close it, or use it in a `with`."""

    name: str
    frames: Generator[Frame, None, None]
    fps: float = USUAL_FPS
    frame_count: int | None = None
    """None when unknown; an estimate for some video formats."""
    release: Callable[[], object] = _hold_nothing

    def __next__(self) -> Frame:
        return next(self.frames)

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the file or camera back; closing twice is fine."""
        self.frames.close()
        self.release()


def open_source(source: str) -> FrameSource:
    """The frames of a video file, an image or sequence folder, or a camera named by its number."""
    if source.isdecimal():
        return _open_camera(int(source))
    path = Path(source)
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise InputError(
            f"source {source!r}",
            found="no such file or folder",
            expected="a video file, a folder of images or a camera number",
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise InputError(
            f"source {source!r}",
            found="a single image",
            expected="a video or a folder of images",
            fix=f"pass the folder: {path.parent}",
        )
    return _open_video(path)


def list_images(folder: Path) -> list[Path]:
    """A sequence folder's images in the order of their names, frame 10 after frame 9."""
    for place in IMAGE_FOLDERS:
        images = [
            path
            for path in (folder / place).glob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
        ]
        if images:
            return sorted(images, key=_order_naturally)
    raise InputError(
        f"folder {str(folder)!r}",
        found="no images",
        expected="{} in it, in frames/, img/ or imgs/".format(" ".join(IMAGE_SUFFIXES)),
    )


def _order_naturally(path: Path) -> tuple[list[str | int], str]:
    # Splitting by digits makes texts and numbers alternate, so like meets like.
    parts = re.split(r"([0-9]+)", path.name)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name


def _open_folder(folder: Path) -> FrameSource:
    images = list_images(folder)
    name = folder.resolve().name
    return FrameSource(name, read_images(images), frame_count=len(images))


def read_images(images: Sequence[Path]) -> Generator[Frame, None, None]:
    """The frames of these files, read one by one as they are asked for."""
    for path in images:
        # This flag makes grey, 16-bit and transparent images BGR uint8, and turns photographs
        # the way their camera was held.
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise SourceError(
                f"image {str(path)!r} cannot be read",
                found=_describe_file(path),
                fix="replace it or take it out of the folder",
            )
        yield image.astype(np.uint8, copy=False)


def _open_video(path: Path) -> FrameSource:
    with hush_libraries():
        capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise SourceError(
            f"video {str(path)!r} cannot be opened",
            found=_describe_file(path),
            expected="a whole video file",
            fix="copy it again, or convert it: ffmpeg -i IN OUT.mp4",
        )
    fps, announced = _read_rate(capture), capture.get(cv2.CAP_PROP_FRAME_COUNT)
    count = int(announced) if announced >= 1 else None
    frames = _read_video(capture, path, fps, count)
    return FrameSource(path.name, frames, fps, count, capture.release)


def _read_video(
    capture: cv2.VideoCapture, path: Path, fps: float, count: int | None
) -> Generator[Frame, None, None]:
    read, reached = 0, 0.0
    while (frame := _grab_frame(capture)) is not None:
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
    return f"{path.stat().st_size} bytes that OpenCV cannot decode"


def _open_camera(index: int) -> FrameSource:
    name = f"camera {index}"
    with hush_libraries():
        capture = cv2.VideoCapture(index) if index <= np.iinfo(np.int32).max else None
    if capture is None or not capture.isOpened():
        raise SourceError(
            f"{name} does not open",
            found="no such camera, or one in use or not permitted",
            fix=f"`ls /dev/video*` lists cameras; for a file of that name write ./{index}",
        )
    return FrameSource(
        name, _read_camera(capture, name), _read_rate(capture), release=capture.release
    )


def _read_camera(capture: cv2.VideoCapture, name: str) -> Generator[Frame, None, None]:
    read = 0
    while (frame := _grab_frame(capture)) is not None:
        read += 1
        yield frame
    raise SourceError(f"{name} stopped", found=f"nothing after {read} frames", fix="reconnect it")


def _grab_frame(capture: cv2.VideoCapture) -> Frame | None:
    shown, frame = capture.read()
    return frame.astype(np.uint8, copy=False) if shown else None


def _read_rate(capture: cv2.VideoCapture) -> float:
    """The rate the source names, unless it is none that a video can have."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 1 <= fps <= 1000 else USUAL_FPS
