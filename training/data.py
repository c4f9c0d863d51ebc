"""A run's clips: real, synthetic, or a mix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from relo_edge.spec import Variant
from relo_edge.training.real_batches import check_sources, count_workers, stream_real_clips
from relo_edge.training.real_clips import ClipSource, open_sources
from relo_edge.training.synthetic_batches import (
    ClipSettings,
    count_items,
    mix_clips,
    mix_sequences,
    split_clips,
    stream_clips,
    stream_sequences,
)
from relo_edge.training.textures import Atlas

__all__ = ["TrainingData", "open_training_data"]


@dataclass(eq=False)
class TrainingData:
    """Opened and checked sources; nothing is drawn yet."""

    variant: Variant
    sources: tuple[ClipSource, ...]
    real: ClipSettings
    synthetic: ClipSettings
    paint: Callable[[], Atlas]

    @cached_property
    def atlas(self) -> Atlas:
        """Textures of synthetic clips, built when first needed because that takes a while."""
        return self.paint()

    @contextmanager
    def stream(
        self, first_step: int, device: torch.device, rank: int = 0, world: int = 1
    ) -> Iterator[Iterator[Any]]:
        """A process's batches from `first_step` on; loader processes end with the block."""
        sequences = self.real.intervals > 0
        with ExitStack() as closed:
            streams: list[Iterator[Any]] = []
            if self.sources:
                workers = count_workers(device)
                items = count_items(self.real.parts, first_step, rank, world)
                stream = stream_real_clips(self.sources, self.variant, self.real, items, workers)
                streams.append(closed.enter_context(closing(stream)))
            if self.synthetic.clips:
                atlas = self.atlas.to(device)
                items = count_items(self.synthetic.parts, first_step, rank, world)
                draw = stream_sequences if sequences else stream_clips
                drawn: Any = draw(atlas, self.variant, self.synthetic, items)
                streams.append(closed.enter_context(closing(drawn)))
            # Only clips of two kinds must meet on one device: those of one kind pass as they are.
            mix: Any = mix_sequences if sequences else mix_clips
            yield mix(streams, device) if len(streams) > 1 else streams[0]


def open_training_data(
    data: Sequence[Path],
    share: float,
    settings: ClipSettings,
    variant: Variant,
    paint: Callable[[], Atlas],
) -> TrainingData:
    """Open every folder, so that a wrong one is refused before training starts."""
    real, synthetic = split_clips(settings, share)
    sources = open_sources(data)
    check_sources(sources, variant, real)
    return TrainingData(variant, sources, real, synthetic, paint)
