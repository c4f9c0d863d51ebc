"""Clips to track, from any frame on: videos, sequences with ground truth, or built-in clips."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.clips.target_choice import choose_targets
from relo_edge.datasets.sequences import TRUTH_FILES, ImageSequence, find_truth, read_sequence
from relo_edge.errors import InputError, SourceError
from relo_edge.geometry import Box, clip_to_picture, is_usable
from relo_edge.host.files import hash_file
from relo_edge.synthetic.clip import RATE, make_clip
from relo_edge.video.opening import Frame, FrameSource, open_source
from relo_edge.video.sources.files import read_images

__all__ = ["Clip", "ClipStart", "find_clips", "make_synthetic_clip"]

SYNTHETIC_SEEDS = range(1000, 1008)
"""Far from the seeds by which a tracker is judged."""

SYNTHETIC_FRAMES = 90
SYNTHETIC_SIZE = (640, 360)

LONGEST = 900
"""Frames of a clip that are looked at: variety comes from more clips, not from longer ones."""

VIDEO_SUFFIXES = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
"""What counts as a video in a folder; one that is named may end as it likes."""

SPACING = 15
"""Frames from one picture of a video in which targets are looked for to the next."""


@dataclass(frozen=True)
class ClipStart:
    """A frame in which a target can be set, and its box there."""

    frame: int
    box: Box


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames that are read when they are needed, and where targets can be set in them."""

    name: str
    frame_count: int
    starts: tuple[ClipStart, ...]
    open_frames: Callable[[int], FrameSource]
    """Opens the frames from this number on: those before it need not be drawn or decoded."""
    hash_content: Callable[[], str]
    truth: NDArray[np.float64] | None = None
    """[n,4] the target's true boxes, NaN where it is absent."""

    def __post_init__(self) -> None:
        if self.frame_count < 2:
            found = f"{self.frame_count} frame" + "s" * (self.frame_count != 1)
            raise SourceError(f"clip {self.name}", found=found, expected="2 or more")
        if not self.starts:
            raise SourceError(
                f"clip {self.name}",
                found="no usable target",
                expected="a box of at least 4x4 pixels in a picture with some texture",
                fix="leave this clip out",
            )

    @cached_property
    def digest(self) -> str:
        """The hash of the content: another clip of the same name has another."""
        return self.hash_content()

    def read_frames(self, indices: range) -> Generator[Frame, None, None]:
        """The frames of these numbers; those of a falling range are held until all are read."""
        rising = indices if indices.step > 0 else indices[::-1]
        read, shapes = 0, set()
        with self.open_frames(rising[0]) as source:
            frames = islice(source, 0, rising[-1] - rising[0] + 1, rising.step)
            for frame in frames if rising is indices else reversed(list(frames)):
                read += 1
                shapes.add(frame.shape)
                if len(shapes) > 1:
                    raise SourceError(f"clip {self.name}", found="frames of several sizes")
                yield frame
        if read < len(indices):
            raise SourceError(
                f"clip {self.name} changed while it was read",
                found=f"{read} frames",
                expected=len(indices),
            )


def find_clips(paths: Sequence[str | Path]) -> list[Clip]:
    """Every clip that the paths and globs name, and the built-in ones where there is none."""
    if not paths:
        return [make_synthetic_clip(seed) for seed in SYNTHETIC_SEEDS]
    return [clip for path in paths for found in _expand(Path(path)) for clip in _read_path(found)]


def _expand(path: Path) -> list[Path]:
    """The files and folders that a glob such as `clips/*.mp4` names; what exists is itself."""
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(Path(name) for name in glob.glob(str(path)))  # noqa: PTH207  a path may be absolute
    if not found:
        raise InputError(f"--clips {str(path)!r}", found="nothing of that name")
    return found


def _read_path(path: Path) -> list[Clip]:
    if not path.exists():
        raise InputError(
            f"clip {str(path)!r}",
            found="no such file or folder",
            expected="a video, a sequence folder or a folder of those",
        )
    if not path.is_dir():
        return [_read_video(path)]
    folders = [path] if find_truth(path) else sorted(filter(find_truth, path.iterdir()))
    videos = [] if folders else sorted(filter(_is_video, path.iterdir()))
    if not folders and not videos:
        raise InputError(
            f"no clip in {str(path)!r}",
            found="neither ground truth nor videos",
            expected=f"{' or '.join(TRUTH_FILES)} in it or in its folders, or files that end in "
            + " ".join(VIDEO_SUFFIXES),
            fix="name videos of other kinds one by one",
        )
    return [_read_sequence(folder) for folder in folders] + [_read_video(file) for file in videos]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()


def _read_video(path: Path) -> Clip:
    """Look through a video once: how long it is, and what could be followed in it."""

    def open_frames(first: int) -> FrameSource:
        # An absolute path is never taken for a camera's number.
        source = open_source(str(path.absolute()))
        frames = (frame for frame in islice(source, first, None))
        return FrameSource(source.name, frames, release=source.close)

    count, starts = 0, []
    with open_frames(0) as source:
        for index, frame in enumerate(islice(source, LONGEST)):
            count += 1
            if index % SPACING == 0:
                starts += [ClipStart(index, box) for box in choose_targets(frame, index)]
    return Clip(path.name, count, tuple(starts), open_frames, lambda: hash_file(path))


def _read_sequence(folder: Path) -> Clip:
    """A sequence's target, from any frame that shows enough of it."""
    sequence = read_sequence(folder)
    truth = sequence.boxes[:LONGEST]

    def open_frames(first: int) -> FrameSource:
        return FrameSource(sequence.name, read_images(sequence.images[first:]))

    with open_frames(0) as source:
        height, width = next(source).shape[:2]
    return Clip(
        name=sequence.name,
        frame_count=len(truth),
        starts=_list_starts(truth, (width, height)),
        open_frames=open_frames,
        hash_content=lambda: _hash_sequence(sequence),
        truth=truth,
    )


def make_synthetic_clip(
    seed: int, frames: int = SYNTHETIC_FRAMES, size: tuple[int, int] = SYNTHETIC_SIZE
) -> Clip:
    """A clip that is drawn, with a start wherever its target can be seen."""
    clip = make_clip(seed, frames, size)
    name = f"synthetic-{seed}"

    def open_frames(first: int) -> FrameSource:
        return FrameSource(name, clip.frames(range(first, len(clip))), RATE)

    def hash_content() -> str:
        # The boxes and one picture tell when the code that makes them has changed.
        return hashlib.sha256(clip.boxes.tobytes() + next(clip.frames()).tobytes()).hexdigest()

    return Clip(
        name=name,
        frame_count=len(clip),
        starts=_list_starts(clip.boxes, clip.size),
        open_frames=open_frames,
        hash_content=hash_content,
        truth=clip.boxes,
    )


def _list_starts(truth: NDArray[np.float64], size: tuple[int, int]) -> tuple[ClipStart, ...]:
    starts = []
    for frame, (x, y, width, height) in enumerate(truth.tolist()):
        box = clip_to_picture((x, y, width, height), size)
        if is_usable(box):
            starts.append(ClipStart(frame, box))
    return tuple(starts)


def _hash_sequence(sequence: ImageSequence) -> str:
    """Names, sizes and bytes of the images that may be read, and the boxes."""
    digest = hashlib.sha256(sequence.boxes.tobytes())
    for image in sequence.images[:LONGEST]:
        digest.update(f"\0{image.name}\0{image.stat().st_size}\0{hash_file(image)}".encode())
    return digest.hexdigest()
