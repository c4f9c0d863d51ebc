"""Batches of real clips; unreadable files are skipped and reported."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from relo_edge.errors import ReloError, SourceError
from relo_edge.host.cpu import count_cores
from relo_edge.host.opencv import cv2
from relo_edge.spec import Variant
from relo_edge.training.real_clips import ClipSource, UnusableClip
from relo_edge.training.real_crops import ClipCrops, cut_clip
from relo_edge.training.real_sequences import cut_sequence, pack_sequences
from relo_edge.training.render import ClipBatch
from relo_edge.training.sequences import Sequences
from relo_edge.training.synthetic_batches import ClipSettings, Items, load_items

__all__ = ["check_sources", "count_workers", "stream_real_clips"]

log = logging.getLogger("relo_edge")

TRIES = 50
"""Clips that are tried before a source is refused."""

MOST_READERS = 16

TOLD = 5
"""Files that are named when they cannot be read; more are counted."""


def stream_real_clips(
    sources: Sequence[ClipSource],
    variant: Variant,
    settings: ClipSettings,
    items: Items | None = None,
    workers: int = 1,
) -> Generator[ClipBatch | Sequences, None, None]:
    """The batch of each item, the same whatever the number of processes that read them."""
    left_out = SkippedFiles()
    clips = RealClips(tuple(sources), variant, settings)
    try:
        with closing(load_items(clips, items, workers)) as steps:
            for drawn in steps:
                left_out.note(drawn.faults)
                yield drawn.unpack()
    finally:
        left_out.tell()


def check_sources(sources: Sequence[ClipSource], variant: Variant, settings: ClipSettings) -> None:
    """Refuse a folder that gives no clip, before training starts."""
    for source in sources:
        RealClips((source,), variant, replace(settings, clips=1))[0].unpack()


def count_workers(device: torch.device) -> int:
    """Loader processes: one beside a CPU that trains, most cores beside a GPU."""
    return 1 if device.type == "cpu" else max(1, min(MOST_READERS, count_cores() - 1))


@dataclass(frozen=True, eq=False)
class LoadedBatch:
    """A batch, or the error of the loader process."""

    batch: ClipBatch | Sequences | None
    faults: tuple[str, ...]
    """Files that could not be read."""
    failure: ReloError | None = None

    def unpack(self) -> ClipBatch | Sequences:
        """The batch."""
        if self.failure:
            raise self.failure
        assert self.batch
        return self.batch


@dataclass(frozen=True, eq=False)
class RealClips(Dataset[LoadedBatch]):
    """The batch of each item: a function of seed, item and files."""

    sources: tuple[ClipSource, ...]
    variant: Variant
    settings: ClipSettings

    def __getitem__(self, item: int) -> LoadedBatch:
        """Draw an item's clips."""
        faults: list[str] = []
        settings, frames = self.settings, self.settings.grow(item)
        sequences = settings.intervals > 0
        try:
            clips = [self._draw(item, index, frames, faults) for index in range(settings.clips)]
        except ReloError as error:
            return LoadedBatch(None, tuple(faults), error)
        batch = pack_sequences(clips) if sequences else _pack_clips(clips)
        return LoadedBatch(batch, tuple(faults))

    def _draw(self, item: int, index: int, frames: int, faults: list[str]) -> Any:
        settings = self.settings
        rng = np.random.default_rng([settings.seed, item, index])
        for _ in range(TRIES):
            # Each folder as often as any other, as in the paper.
            source = self.sources[rng.integers(len(self.sources))]
            try:
                clip = source.draw(rng, frames, settings.intervals)
                if settings.intervals:
                    return cut_sequence(clip, self.variant, rng)
                return cut_clip(clip, self.variant, settings.jitter, rng)
            except UnusableClip as unfit:
                reason = str(unfit)
            except (ReloError, OSError, cv2.error) as error:
                reason = str(error)
                faults.append(reason)
        raise SourceError(
            f"nothing to learn from in {source.describe()}", found=f"in {TRIES} tries: {reason}"
        )


class SkippedFiles:
    """The files that a run skipped."""

    def __init__(self) -> None:
        self._faults: set[str] = set()
        self._draws = 0

    def note(self, faults: Sequence[str]) -> None:
        """Report the first few files, each once."""
        self._draws += len(faults)
        for fault in faults:
            if fault not in self._faults and len(self._faults) < TOLD:
                log.warning("left out: %s", fault)
            self._faults.add(fault)

    def tell(self) -> None:
        """Report how many were skipped."""
        if self._faults:
            count = len(self._faults)
            log.warning("left out %d pictures or videos, drawn %d times", count, self._draws)


def _pack_clips(clips: Sequence[ClipCrops]) -> ClipBatch:
    templates, template_boxes, searches, boxes, seen = (
        torch.from_numpy(np.stack(parts)) for parts in zip(*clips, strict=True)
    )
    return ClipBatch(templates, template_boxes, searches, boxes, seen)
