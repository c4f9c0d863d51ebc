"""Streams of synthetic clips, each a function of seed and item number."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from relo_edge.errors import InputError, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.host.signals import STOP_SIGNALS
from relo_edge.spec import Variant
from relo_edge.training.render import ClipBatch, Jitter, render_clips
from relo_edge.training.scenes import Pace
from relo_edge.training.sequences import Sequences, draw_sequences, join_sequences
from relo_edge.training.textures import Atlas

__all__ = [
    "ClipSettings",
    "Items",
    "count_items",
    "load_items",
    "mix_clips",
    "mix_sequences",
    "name_lost_workers",
    "split_clips",
    "stream_clips",
    "stream_sequences",
]

Item = TypeVar("Item")
Items = Iterable[int]


@dataclass(frozen=True)
class ClipSettings:
    """Number, length and jitter of an item's clips."""

    clips: int
    frames: int
    jitter: Jitter
    seed: int = 0
    parts: int = 1
    """Parts of a step, each of so many clips, shared out among processes."""
    intervals: int = 0
    """Largest frame interval of sequences; 0 for independent views."""
    first_frames: int = 0
    """Frames of sequences at the first step; they grow to `frames` over two thirds of the steps."""
    steps: int = 1

    def grow(self, item: int) -> int:
        """Frames of an item's clips."""
        if not self.first_frames:
            return self.frames
        share = min(1.0, 1.5 * (item // self.parts) / self.steps)
        return self.first_frames + int(share * (self.frames - self.first_frames))


@dataclass(frozen=True, eq=False)
class _SyntheticClips(Dataset[ClipBatch]):
    atlas: Atlas
    variant: Variant
    settings: ClipSettings

    def __getitem__(self, item: int) -> ClipBatch:
        settings = self.settings
        generator = _seed_generator(settings, item, self.atlas.backgrounds.device)
        return render_clips(
            self.atlas, self.variant, generator, settings.clips, settings.frames, settings.jitter
        )


def stream_clips(
    atlas: Atlas, variant: Variant, settings: ClipSettings, items: Items | None = None
) -> Generator[ClipBatch, None, None]:
    """The batch of each item; a resumed run sees the same ones."""
    on_gpu = atlas.backgrounds.device.type != "cpu"
    # A GPU renders in line; on a CPU a process of its own draws ahead of the training.
    return load_items(_SyntheticClips(atlas, variant, settings), items, 0 if on_gpu else 1)


def stream_sequences(
    atlas: Atlas, variant: Variant, settings: ClipSettings, items: Items | None = None
) -> Generator[Sequences, None, None]:
    """Sequences whose crops are rendered on demand, so nothing is drawn ahead."""
    pace = Pace(settings.intervals)
    for item in count() if items is None else items:
        generator = _seed_generator(settings, item, atlas.backgrounds.device)
        frames = settings.grow(item)
        yield draw_sequences(atlas, variant, generator, settings.clips, frames, pace)


def mix_sequences(
    streams: Sequence[Iterator[Sequences]], device: torch.device
) -> Iterator[Sequences]:
    """Clips of every stream in each batch."""
    for batches in zip(*streams, strict=True):
        yield join_sequences([batch.to(device) for batch in batches])


def count_items(parts: int, first_step: int, rank: int = 0, world: int = 1) -> Items:
    """The items of one process: each step has so many parts, taken in turn by the processes."""
    return count(first_step * parts + rank, world)


def _seed_generator(settings: ClipSettings, item: int, device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed((settings.seed << 32) + item)


def mix_clips(streams: Sequence[Iterator[ClipBatch]], device: torch.device) -> Iterator[ClipBatch]:
    """Clips of every stream in each batch."""
    for batches in zip(*streams, strict=True):
        moved = [vars(batch.to(device)) for batch in batches]
        yield ClipBatch(**{name: torch.cat([one[name] for one in moved]) for name in moved[0]})


def split_clips(settings: ClipSettings, share: float) -> tuple[ClipSettings, ClipSettings]:
    """The settings of the real and of the synthetic clips in each step."""
    synthetic = round(settings.clips * share)
    if 0 < share < 1 and not 0 < synthetic < settings.clips:
        raise InputError(
            "--synthetic",
            found=f"{synthetic} of {settings.clips} clips in a step",
            expected="some of either kind",
        )
    return replace(settings, clips=settings.clips - synthetic), replace(settings, clips=synthetic)


@contextmanager
def name_lost_workers() -> Iterator[None]:
    """Turn a killed loader process, mostly out of memory, into a one-line error."""
    try:
        yield
    except RuntimeError as error:
        # torch raises this wherever the training happens to be.
        if not str(error).startswith("DataLoader worker"):
            raise
        raise _lost_worker(str(error).partition(". ")[0]) from None


def load_items(
    dataset: Dataset[Item], wanted: Items | None, workers: int
) -> Generator[Item, None, None]:
    """The dataset's items, in order, however many processes draw ahead."""
    items = iter(
        DataLoader(
            dataset,
            batch_size=None,
            sampler=count() if wanted is None else wanted,
            num_workers=workers,
            worker_init_fn=_settle_worker,
        )
    )
    try:
        while True:
            try:
                item = next(items)
            except (EOFError, OSError) as error:  # it ended while it handed over an item
                raise _lost_worker(type(error).__name__) from None
            yield item
    finally:
        # They take no notice of SIGTERM: a traceback that kept them would hang the program's end.
        del items


def _lost_worker(found: str) -> SourceError:
    return SourceError(
        "a process that draws clips ended",
        found=found,
        fix="see that there is memory, also in /dev/shm; the same command goes on",
    )


def _settle_worker(_: int) -> None:
    """Ignore Ctrl-C, which reaches the whole group; the main process ends the loaders."""
    for wish in STOP_SIGNALS:
        signal.signal(wish, signal.SIG_IGN)
    # OpenCV's threads are not there any more after a fork.
    cv2.setNumThreads(0)
