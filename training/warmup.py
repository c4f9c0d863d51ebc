"""RELO's first stage: box regression at the target's cell."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relo_edge.network.relo import FrameMaps, Relo
from relo_edge.training.losses import (
    box_loss,
    centre_loss,
    find_cells,
    gather_boxes,
    mean_seen,
    pair_iou,
)
from relo_edge.training.render import ClipBatch
from relo_edge.training.rollout import roll_out, shift_logits
from relo_edge.training.teacher import Teacher

__all__ = ["Warmup", "copy_centre_to_policy"]

TEACHER = 0.5
"""Weight of the teacher's loss, in which one is a token that tells nothing but the mean."""
TEACHER_RATE = 2.0
"""The learning rate's share of the map to the teacher's features, which begins from nothing."""


@dataclass(frozen=True)
class Warmup:
    """The stage and its choices; the defaults are the paper's."""

    encoder_rate: float = 0.1
    """The encoder's share of the learning rate."""
    spread: float = 0.0
    """Weight of the box loss at a random neighbour of the target's cell."""
    centre: float = 0.0
    """Weight of the centre loss, which gives weights without a policy one to start from."""

    teacher: Teacher | None = None
    """A backbone whose features the tokens are to tell as well."""

    name = "warmup"

    @property
    def has_policy(self) -> bool:
        """Only with a centre loss: the paper's warm-up leaves the policy untrained."""
        return self.centre > 0

    def group_parameters(self, network: Relo) -> list[dict[str, object]]:
        """Encoder, decoder and the teacher's map; policy and value are frozen."""
        for frozen in (network.policy_model, network.value_model):
            frozen.requires_grad_(False)
        groups: list[dict[str, object]] = [
            {"params": list(network.encoder.parameters()), "scale": self.encoder_rate},
            {"params": list(network.decoder.parameters()), "scale": 1.0},
        ]
        if self.teacher:
            groups.append({"params": list(self.teacher.parameters()), "scale": TEACHER_RATE})
        return groups

    def set_mode(self, network: Relo) -> None:
        """Policy and value keep their statistics."""
        network.train()
        network.policy_model.eval()
        network.value_model.eval()

    def learn(self, network: Relo, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, and what to show of it."""
        with self._listen(network) as tokens:
            loss, shown = self._learn_boxes(network, batch)
        if self.teacher:
            shown["teacher"] = self.teacher.measure_error(tokens, batch)
            loss = loss + TEACHER * shown["teacher"]
        return loss, shown

    def _listen(self, network: Relo) -> AbstractContextManager[list[Tensor]]:
        return self.teacher.listen(network) if self.teacher else nullcontext([])

    def _learn_boxes(self, network: Relo, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        losses, overlaps, hits = [], [], []
        for frame, maps in roll_out(network, batch):
            wanted, seen = batch.boxes[:, frame], batch.seen[:, frame].float()
            cells = find_cells(wanted, network.variant.grid)
            near = _pick_neighbours(cells, network.variant.grid)
            boxes = gather_boxes(maps, torch.stack([cells, near], dim=1))
            loss = box_loss(boxes[:, 0], wanted)
            if self.spread:
                loss = loss + self.spread * box_loss(boxes[:, 1], wanted)
            overlaps.append(mean_seen(pair_iou(boxes[:, 0], wanted), seen))
            if self.centre:
                logits = score_centres(network, maps)
                loss = loss + self.centre * centre_loss(logits, cells)
                hits.append(mean_seen((logits.flatten(1).argmax(1) == cells).float(), seen))
            losses.append(mean_seen(loss, seen))
        shown = {"iou": torch.stack(overlaps).mean()}
        if hits:
            shown["centre"] = torch.stack(hits).mean()
        return torch.stack(losses).mean(), shown

    def finish(self, network: Relo, batch: ClipBatch) -> None:
        """Copy learned centres to the policy."""
        if self.centre:
            copy_centre_to_policy(network)
            shift_logits(network, batch)


def score_centres(network: Relo, maps: FrameMaps) -> Tensor:
    """The decoder's centre branch, which inference never runs: [B,G,G]."""
    decoder = network.decoder
    return decoder.conv5_ctr(decoder._climb(maps.features, "ctr")).squeeze(1)


def copy_centre_to_policy(network: Relo) -> None:
    """Copy the decoder's centre branch, whose layers are the policy's, to the policy."""
    for level in range(1, 6):
        name = f"conv{level}_ctr"
        source: nn.Module = network.decoder.get_submodule(name)
        network.policy_model.get_submodule(name).load_state_dict(source.state_dict())


def _pick_neighbours(cells: Tensor, grid: int) -> Tensor:
    """A random cell of the 3×3 around each cell."""
    shift = torch.randint(-1, 2, (2, *cells.shape), device=cells.device)
    row = (cells // grid + shift[0]).clamp(0, grid - 1)
    column = (cells % grid + shift[1]).clamp(0, grid - 1)
    return row * grid + column
