"""A clip through the network, frame by frame, its temporal tokens carried without a gradient."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from relo_edge.network.relo import FrameMaps, Relo
from relo_edge.training.render import ClipBatch

__all__ = ["roll_out"]


def roll_out(network: Relo, batch: ClipBatch) -> Iterator[tuple[int, FrameMaps]]:
    """Each frame's maps, in order; every template slot holds the first frame's."""
    variant = network.variant
    tokens = network.encode_template(batch.templates, batch.template_boxes)
    tokens = tokens.repeat(1, variant.templates, 1)
    clips, frames = batch.searches.shape[:2]
    state: Tensor = tokens.new_zeros(clips, *variant.state_shape)
    history = torch.zeros(clips, device=tokens.device)
    for frame in range(frames):
        maps, state = network(batch.searches[:, frame], tokens, state, history)
        state, history = state.detach(), torch.ones_like(history)
        yield frame, maps
