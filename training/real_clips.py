"""Which frames of which target make a clip; no picture is read here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.datasets.coco import BoxedPictures, holds_coco, read_coco
from relo_edge.datasets.layouts import LAYOUTS, find_videos
from relo_edge.datasets.sequences import ImageSequence
from relo_edge.errors import InputError, ReloError

__all__ = ["ClipFrames", "ClipSource", "UnusableClip", "open_sources"]

REACH = 200
"""Frames after the template's in which a clip's search frames lie."""

KEPT = 64
"""Videos whose boxes and images' names a process remembers."""


class UnusableClip(Exception):
    """A valid clip that teaches nothing; another is drawn."""


class ClipFrames(NamedTuple):
    """The template's frame, then the search frames in their order; all of one target."""

    name: str
    pictures: tuple[Path, ...]
    boxes: NDArray[np.float64]
    """[F+1,4] x, y, w, h, counted from 0."""
    size: tuple[int, int] | None = None
    """Width and height of the pictures, where the annotations tell them."""


class ClipSource(Protocol):
    """One folder to draw clips from."""

    def describe(self) -> str:
        """Its identity, which a resumed run must find unchanged."""

    def draw(self, rng: np.random.Generator, frames: int, intervals: int = 0) -> ClipFrames:
        """A clip of so many search frames; `intervals` is the largest interval of a sequence."""


@dataclass(frozen=True)
class Videos:
    """Sequences in a layout that `eval` knows as well, each read when it is drawn."""

    folder: Path
    layout: str
    places: tuple[Path, ...]

    def describe(self) -> str:
        """Its identity, which a resumed run must find unchanged."""
        return f"{self.folder.name}: {len(self.places)} videos as {self.layout}"

    def draw(self, rng: np.random.Generator, frames: int, intervals: int = 0) -> ClipFrames:
        """A video, a target in it, and frames that show it."""
        place = self.places[rng.integers(len(self.places))]
        targets = _read_place(self.layout, place)
        if not targets:
            raise UnusableClip(f"{place} has no target")
        target = targets[rng.integers(len(targets))]
        visible = np.flatnonzero(target.visible)
        if len(visible) < 2:
            raise UnusableClip(f"{place} shows its target in {len(visible)} frames")
        if intervals:
            chosen = _choose_run(rng, visible, frames, intervals)
        else:
            chosen = _choose_frames(rng, visible, frames)
        pictures = tuple(target.images[index] for index in chosen)
        return ClipFrames(target.name, pictures, target.boxes[chosen])


@dataclass(frozen=True, eq=False)
class StillPictures:
    """Pictures, each a video that stands still."""

    folder: Path
    content: BoxedPictures

    def describe(self) -> str:
        """Its identity, which a resumed run must find unchanged."""
        return f"{self.folder.name}: {len(self.content.boxes)} boxes as coco"

    def draw(self, rng: np.random.Generator, frames: int, _: int = 0) -> ClipFrames:
        """One box, its picture repeated."""
        row = rng.integers(len(self.content.boxes))
        owner = self.content.owners[row]
        name = self.content.names[owner]
        width, height = self.content.sizes[owner].tolist()
        return ClipFrames(
            name,
            (self.content.folder / name,) * (frames + 1),
            np.repeat(self.content.boxes[row : row + 1], frames + 1, axis=0),
            (width, height),
        )


def open_sources(folders: Sequence[Path]) -> tuple[ClipSource, ...]:
    """The folders' clip sources, each recognised by its layout."""
    return tuple(map(_open_source, folders))


def _open_source(folder: Path) -> ClipSource:
    if folder.is_dir() and holds_coco(folder):
        return StillPictures(folder.absolute(), read_coco(folder))
    layout, places = find_videos(folder)
    try:
        withheld = any(target.withheld for target in _read_place(layout, places[0]))
    except (ReloError, OSError):
        withheld = False  # one broken video is told when it is drawn
    if withheld:
        raise InputError(
            f"dataset {str(folder)!r} as {layout}",
            found="first boxes only",
            expected="a box for each frame",
        )
    return Videos(folder.absolute(), layout, tuple(places))


@lru_cache(KEPT)
def _read_place(layout: str, place: Path) -> list[ImageSequence]:
    return LAYOUTS[layout].read(place, 0.0)


def _choose_frames(
    rng: np.random.Generator, visible: NDArray[np.int64], frames: int
) -> NDArray[np.int64]:
    """A first frame and later ones within REACH; short videos repeat some."""
    first = int(rng.integers(len(visible) - 1))
    # However far the next visible frame is, it can be reached.
    end = max(int(np.searchsorted(visible, visible[first] + REACH, "right")), first + 2)
    later = np.arange(first + 1, end)
    chosen = np.sort(rng.choice(later, frames, replace=len(later) < frames))
    return visible[np.concatenate([[first], chosen])]


def _choose_run(
    rng: np.random.Generator, visible: NDArray[np.int64], frames: int, intervals: int
) -> NDArray[np.int64]:
    """Consecutive frames at random intervals; a short video repeats its last one."""
    most = int(rng.integers(1, intervals + 1))
    steps = rng.integers(1, most + 1, frames)
    first = int(rng.integers(max(1, len(visible) - int(steps.sum()))))
    places = first + np.concatenate([[0], steps.cumsum()])
    return visible[np.minimum(places, len(visible) - 1)]
