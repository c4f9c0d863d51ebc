"""Box losses at given cells, and the centre loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from relo_edge.network.relo import FrameMaps

__all__ = ["box_loss", "centre_loss", "find_cells", "gather_boxes", "generalized_iou"]
__all__ += ["mean_seen", "pair_iou"]

GIOU_WEIGHT = 2.0
L1_WEIGHT = 5.0


def find_cells(boxes: Tensor, grid: int) -> Tensor:
    """The cell in which each box's centre lies: [B,4] cx, cy, w, h → [B], row by row."""
    place = (boxes[:, :2] * grid).long().clamp(0, grid - 1)
    return place[:, 1] * grid + place[:, 0]


def gather_boxes(maps: FrameMaps, cells: Tensor) -> Tensor:
    """The boxes at cells [B,N] → [B,N,4] cx, cy, w, h, relative to the search crop."""
    grid = maps.sizes.shape[-1]
    index = cells[:, None].expand(-1, 2, -1)
    sizes = maps.sizes.float().flatten(2).gather(2, index).transpose(1, 2)
    offsets = maps.offsets.float().flatten(2).gather(2, index).transpose(1, 2)
    corner = torch.stack([cells % grid, cells // grid], dim=2)
    return torch.cat([(corner + offsets) / grid, sizes], dim=2)


def pair_iou(first: Tensor, second: Tensor) -> Tensor:
    """IoU of boxes cx, cy, w, h, pair by pair."""
    return _overlap(first, second)[0]


def generalized_iou(first: Tensor, second: Tensor) -> Tensor:
    """GIoU of boxes cx, cy, w, h, pair by pair."""
    iou, union, low, high = _overlap(first, second)
    around = (high - low).prod(dim=-1).clamp(min=1e-9)
    return iou - (around - union) / around


def box_loss(predicted: Tensor, wanted: Tensor) -> Tensor:
    """The weighted sum of GIoU and L1 losses of each pair of boxes."""
    distance = (predicted - wanted).abs().mean(dim=-1)
    return GIOU_WEIGHT * (1 - generalized_iou(predicted, wanted)) + L1_WEIGHT * distance


def centre_loss(logits: Tensor, cells: Tensor) -> Tensor:
    """Cross-entropy of the target's cell: the prior that a new policy starts from."""
    return F.cross_entropy(logits.float().flatten(1), cells, reduction="none")


def mean_seen(values: Tensor, seen: Tensor) -> Tensor:
    """The mean over the frames whose target is in the crop."""
    return (values * seen).sum() / seen.sum().clamp(min=1)


def _overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """IoU, union, and the corners of the box around both."""
    low_1, high_1 = first[..., :2] - first[..., 2:] / 2, first[..., :2] + first[..., 2:] / 2
    low_2, high_2 = second[..., :2] - second[..., 2:] / 2, second[..., :2] + second[..., 2:] / 2
    shared = (high_1.minimum(high_2) - low_1.maximum(low_2)).clamp(min=0).prod(dim=-1)
    union = first[..., 2:].prod(dim=-1) + second[..., 2:].prod(dim=-1) - shared
    return (
        shared / union.clamp(min=1e-9),
        union,
        low_1.minimum(low_2),
        high_1.maximum(high_2),
    )
