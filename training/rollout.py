"""A clip through the network, frame by frame; temporal tokens carry no gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from relo_edge.network.relo import FrameMaps, Relo
from relo_edge.spec import Variant
from relo_edge.training.render import ClipBatch

__all__ = ["Steppable", "roll_out", "roll_states", "shift_logits"]


class Steppable(Protocol):
    """A network that is stepped frame by frame, plain or fake-quantized."""

    @property
    def variant(self) -> Variant:
        """Its sizes."""

    def encode_template(self, templates: Tensor, boxes: Tensor) -> Tensor:
        """As `Relo.encode_template`."""

    def __call__(
        self, search: Tensor, template_tokens: Tensor, state: Tensor, has_history: Tensor
    ) -> tuple[FrameMaps, Tensor]:
        """As `Relo.forward`."""


def roll_out(network: Steppable, batch: ClipBatch) -> Iterator[tuple[int, FrameMaps]]:
    """Each frame's number and maps, in order."""
    for frame, (maps, _) in enumerate(roll_states(network, batch)):
        yield frame, maps


def roll_states(network: Steppable, batch: ClipBatch) -> Iterator[tuple[FrameMaps, Tensor]]:
    """Each frame's maps and new state; every template slot holds the first frame's."""
    variant = network.variant
    tokens = network.encode_template(batch.templates, batch.template_boxes)
    tokens = tokens.repeat(1, variant.templates, 1)
    clips, frames = batch.searches.shape[:2]
    state: Tensor = tokens.new_zeros(clips, *variant.state_shape)
    history = torch.zeros(clips, device=tokens.device)
    for frame in range(frames):
        maps, fresh = network(batch.searches[:, frame], tokens, state, history)
        state, history = fresh.detach(), torch.ones_like(history)
        yield maps, fresh


@torch.no_grad()
def shift_logits(network: Relo, batch: ClipBatch) -> None:
    """Shift all logits by a constant, so that a usual frame's lowest is zero.

    Training does not feel the shift, but the tracker multiplies raw logits with its window: below
    zero, that would favour the far corners.
    """
    mode = network.training
    network.eval()
    lowest = [
        maps.policy_logits.float().flatten(1).amin(dim=1) for _, maps in roll_out(network, batch)
    ]
    bias = network.policy_model.conv5_ctr.get_parameter("bias")
    bias.sub_(torch.stack(lowest).mean())
    network.train(mode)
