"""Closed-loop accuracy on objects whose pictures are held out of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from relo_edge.measures.accuracy import measure_auc
from relo_edge.network.relo import Relo
from relo_edge.training.closed_loop import pick_best, track_sequences
from relo_edge.training.cutouts import read_photos
from relo_edge.training.scenes import Pace
from relo_edge.training.sequences import draw_sequences
from relo_edge.training.textures import Atlas, build_atlas

__all__ = ["HeldOutTrial", "build_held_out_atlas", "try_held_out"]

SEED = 77
BACKGROUNDS, SPRITES = 400, 400
BATCH = 16
TIGHT = 0.75


@dataclass(frozen=True)
class HeldOutTrial:
    """Accuracy over all frames whose target is visible."""

    clips: int
    frames: int
    mean_iou: float
    auc: float
    sr75: float
    """Share of frames with an IoU above 0.75."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def describe(self) -> str:
        """One line."""
        return (
            f"closed loop on {self.clips} clips of {self.frames} frames of objects held out: "
            f"mean IoU {self.mean_iou:.3f}, AUC {self.auc:.3f}, SR0.75 {self.sr75:.3f}"
        )


def build_held_out_atlas(folders: Sequence[Path]) -> Atlas:
    """An atlas of the pictures that `--cutouts` holds out."""
    return build_atlas((), SEED, BACKGROUNDS, SPRITES, read_photos(folders, held_out=True))


@torch.no_grad()
def try_held_out(network: Relo, atlas: Atlas, clips: int = 64, frames: int = 24) -> HeldOutTrial:
    """Track the first `clips` held-out clips; the same ones whatever the weights."""
    mode, atlas = network.training, atlas.to(next(network.parameters()).device)
    network.eval()
    overlaps = []
    for first in range(0, clips, BATCH):
        generator = torch.Generator(atlas.backgrounds.device).manual_seed(SEED + first)
        count = min(BATCH, clips - first)
        batch = draw_sequences(atlas, network.variant, generator, count, frames, Pace())
        steps = [step.overlaps for step in track_sequences(network, batch, pick_best)]
        overlaps.append(torch.stack(steps, dim=1)[batch.visible[:, 1:]])
    network.train(mode)
    scores = torch.cat(overlaps).double().cpu().numpy()
    auc, tight = measure_auc(scores), float((scores > TIGHT).mean())
    return HeldOutTrial(clips, frames, float(scores.mean()), auc, tight)
