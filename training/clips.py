"""The endless stream of training clips: step by step, each a function of the seed alone."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader, IterableDataset

from relo_edge.spec import Variant
from relo_edge.training.render import ClipBatch, Jitter, render_clips
from relo_edge.training.textures import Atlas

__all__ = ["ClipSettings", "stream_clips"]


@dataclass(frozen=True)
class ClipSettings:
    """How many clips a step sees, how long they are, and how wrong their crops."""

    clips: int
    frames: int
    jitter: Jitter
    seed: int = 0


class _SyntheticClips(IterableDataset[ClipBatch]):
    def __init__(
        self, atlas: Atlas, variant: Variant, settings: ClipSettings, first_step: int
    ) -> None:
        self.atlas, self.variant = atlas, variant
        self.settings, self.first_step = settings, first_step

    def __iter__(self) -> Iterator[ClipBatch]:
        settings, step = self.settings, self.first_step
        generator = torch.Generator(self.atlas.grounds.device)
        while True:
            generator.manual_seed((settings.seed << 32) + step)
            yield render_clips(
                self.atlas,
                self.variant,
                generator,
                settings.clips,
                settings.frames,
                settings.jitter,
            )
            step += 1


def stream_clips(
    atlas: Atlas, variant: Variant, settings: ClipSettings, first_step: int = 0
) -> Iterator[ClipBatch]:
    """Batches from `first_step` on, so that a resumed training sees what an unbroken one would."""
    clips = _SyntheticClips(atlas, variant, settings, first_step)
    on_gpu = atlas.grounds.device.type != "cpu"
    # A GPU renders in line; on a CPU a process of its own draws ahead of the training.
    workers = 0 if on_gpu else 1
    return iter(
        DataLoader(clips, batch_size=None, num_workers=workers, worker_init_fn=_leave_interrupts)
    )


def _leave_interrupts(_: int) -> None:
    """Ctrl-C reaches the whole process group; the main process decides when drawing ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
