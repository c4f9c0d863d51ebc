"""What a run's clips are made of: real footage, synthetic scenes, or some of either."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from relo_edge.spec import Variant
from relo_edge.training.real_batches import count_readers, prove_footage, stream_footage
from relo_edge.training.real_clips import Footage, open_footage
from relo_edge.training.render import ClipBatch
from relo_edge.training.synthetic_batches import ClipSettings, mix_clips, split_clips, stream_clips
from relo_edge.training.textures import Atlas

__all__ = ["Material", "open_material"]


@dataclass(eq=False)
class Material:
    """Opened and proven; nothing is drawn yet."""

    variant: Variant
    footage: tuple[Footage, ...]
    real: ClipSettings
    synthetic: ClipSettings
    paint: Callable[[], Atlas]

    @cached_property
    def atlas(self) -> Atlas:
        """What synthetic clips are painted with: it takes a while, so it is made when needed."""
        return self.paint()

    @contextmanager
    def stream(self, first_step: int, device: torch.device) -> Iterator[Iterator[ClipBatch]]:
        """Batches from `first_step` on; their readers end with the block."""
        with ExitStack() as closed:
            streams: list[Iterator[ClipBatch]] = []
            if self.footage:
                readers = count_readers(device)
                stream = stream_footage(self.footage, self.variant, self.real, first_step, readers)
                streams.append(closed.enter_context(closing(stream)))
            if self.synthetic.clips:
                atlas = self.atlas.to(device)
                stream = stream_clips(atlas, self.variant, self.synthetic, first_step)
                streams.append(closed.enter_context(closing(stream)))
            # Only clips of two kinds must meet on one device: those of one kind pass as they are.
            yield mix_clips(streams, device) if len(streams) > 1 else streams[0]


def open_material(
    data: Sequence[Path],
    share: float,
    settings: ClipSettings,
    variant: Variant,
    paint: Callable[[], Atlas],
) -> Material:
    """Look into the folders, so that what is wrong with one is known before anything is trained."""
    real, synthetic = split_clips(settings, share)
    footage = open_footage(data)
    prove_footage(footage, variant, real)
    return Material(variant, footage, real, synthetic, paint)
