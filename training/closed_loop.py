"""The tracker in closed loop on a batch of clips, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from relo_edge.geometry import hann_window
from relo_edge.network.relo import FrameMaps, Relo
from relo_edge.training.losses import gather_boxes, pair_iou
from relo_edge.training.sequences import Sequences

__all__ = ["TrackedFrame", "keep_in_frame", "pick_best", "sample_cells", "track_sequences"]


class TrackedFrame(NamedTuple):
    """One tracked frame of every clip."""

    maps: FrameMaps
    scores: Tensor
    """[B,cells] logits after the window."""
    cells: Tensor
    """[B] chosen cells."""
    wanted: Tensor
    """[B,4] cx, cy, w, h of the target in the crop, 0 to 1."""
    seen: Tensor
    """[B] whether the target is in the crop."""
    overlaps: Tensor
    """[B] IoU of the tracker's new box with the truth."""


Choice = Callable[[Tensor], Tensor]
"""From scores [B,cells] to cells [B]."""


def pick_best(scores: Tensor) -> Tensor:
    """Argmax, as the tracker chooses."""
    return scores.argmax(dim=1)


def sample_cells(scores: Tensor) -> Tensor:
    """A sample of the policy."""
    return torch.distributions.Categorical(logits=scores).sample()


def track_sequences(network: Relo, sequences: Sequences, choose: Choice) -> Iterator[TrackedFrame]:
    """Follow every clip's target from its true first box; state and boxes carry no gradient."""
    variant, protocol = network.variant, network.variant.protocol()
    tokens = network.encode_template(sequences.templates, sequences.template_boxes)
    tokens = tokens.repeat(1, variant.templates, 1)
    clips = len(sequences.boxes)
    state: Tensor = tokens.new_zeros(clips, *variant.state_shape)
    history = torch.zeros(clips, device=tokens.device)
    weights = hann_window(variant.grid, protocol.window_factor)
    window = torch.from_numpy(weights).to(tokens.device).flatten()
    box = sequences.boxes[:, 0]
    for frame in range(1, sequences.frames + 1):
        middle, side = box[:, :2], box[:, 2:].prod(dim=1).sqrt() * protocol.search_factor
        search = sequences.pictures.crop(frame, middle, side, variant.search_size)
        maps, fresh = network(search, tokens, state, history)
        state, history = fresh.detach(), torch.ones_like(history)
        scores = maps.policy_logits.float().flatten(1) * window
        with torch.no_grad():
            cells = choose(scores)
            predicted = gather_boxes(maps, cells[:, None])[:, 0]
            box = _place_in_frame(predicted, middle, side)
            box = keep_in_frame(box, sequences.edges, sequences.margin)
            truth = sequences.boxes[:, frame]
            wanted = torch.cat(
                [(truth[:, :2] - middle) / side[:, None] + 0.5, truth[:, 2:] / side[:, None]], dim=1
            )
            inside = ((wanted[:, :2] > 0) & (wanted[:, :2] < 1)).all(dim=1)
            seen = (inside & sequences.visible[:, frame]).float()
        yield TrackedFrame(maps, scores, cells, wanted, seen, pair_iou(box, truth))


def keep_in_frame(boxes: Tensor, edges: Tensor, margin: Tensor) -> Tensor:
    """Boxes cx, cy, w, h kept within the frames, never thinner than the margin: `clip_box`."""
    half, margin = boxes[:, 2:] / 2, margin[:, None]
    low, high = boxes[:, :2] - half, boxes[:, :2] + half
    low = low.maximum(edges[:, :2]).minimum(edges[:, 2:] - margin)
    high = high.maximum(edges[:, :2] + margin).minimum(edges[:, 2:])
    size = (high - low).maximum(margin)
    return torch.cat([low + size / 2, size], dim=1)


def _place_in_frame(predicted: Tensor, middle: Tensor, side: Tensor) -> Tensor:
    """From crop coordinates (0 to 1) to frame coordinates."""
    side = side[:, None]
    return torch.cat([middle + (predicted[:, :2] - 0.5) * side, predicted[:, 2:] * side], dim=1)
