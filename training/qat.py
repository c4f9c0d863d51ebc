"""Quantization-aware fine-tuning against the float weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from relo_edge.network.relo import FrameMaps, Relo
from relo_edge.training.fake_quant import GraphTwin, round_tensor
from relo_edge.training.losses import box_loss, find_cells, gather_boxes, mean_seen, pair_iou
from relo_edge.training.render import ClipBatch
from relo_edge.training.rollout import roll_states

__all__ = ["Qat"]

CLOSENESS = 100.0
"""Weight of the distance from the float network beside the box loss."""


@dataclass(eq=False)
class Qat:
    """The stage: fake-quantized network, box loss, and distance from the float weights' outputs."""

    teacher: Relo
    """The float network, a frozen copy."""
    attention: bool = False
    ranges: Mapping[str, float] = field(default_factory=dict)
    """Fixed before the first step."""

    name = "qat"
    has_policy = True

    def group_parameters(self, network: Relo) -> list[dict[str, object]]:
        """All parameters of the graph but BatchNorm's, which scale weights that learn already."""
        frozen = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        for part in (*frozen, network.value_model):
            part.requires_grad_(False)
        return [{"params": [p for p in network.parameters() if p.requires_grad], "scale": 1.0}]

    def set_mode(self, network: Relo) -> None:
        """As the graph computes: BatchNorm by its statistics."""
        network.eval()

    def learn(self, network: Relo, batch: ClipBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of clips, and what to show of it."""
        losses, overlaps, strays = [], [], []
        pairs = zip(
            roll_states(self.round_network(network), batch),
            roll_states(self.teacher, batch),
            strict=True,
        )
        for frame, ((maps, state), (teacher_maps, teacher_state)) in enumerate(pairs):
            truth, seen = batch.boxes[:, frame], batch.seen[:, frame].float()
            cells = find_cells(truth, network.variant.grid)
            boxes = gather_boxes(maps, cells[:, None])[:, 0]
            losses.append(mean_seen(box_loss(boxes, truth), seen))
            overlaps.append(mean_seen(pair_iou(boxes, truth), seen))
            strays.append(_compare_frames(maps, state, teacher_maps, teacher_state))
        figures = {name: torch.stack([s[name] for s in strays]).mean() for name in strays[0]}
        box = torch.stack(losses).mean()
        shown = {"iou": torch.stack(overlaps).mean(), "box": box, **figures}
        loss = box + CLOSENESS * torch.stack(list(figures.values())).sum()
        return loss, {name: value.detach() for name, value in shown.items()}

    def finish(self, network: Relo, batch: ClipBatch) -> None:
        """Nothing: the policy's level is the teacher's."""

    def round_network(self, network: Relo) -> GraphTwin:
        """The network as `quantize` will make it with these ranges."""
        device = next(network.parameters()).device
        reaches = {name: torch.tensor(reach, device=device) for name, reach in self.ranges.items()}
        return GraphTwin(
            network, lambda name, values: round_tensor(values, reaches[name]), self.attention
        )


def _compare_frames(
    maps: FrameMaps, state: Tensor, wanted: FrameMaps, wanted_state: Tensor
) -> dict[str, Tensor]:
    """By output, the squared distance from the teacher as a share of the teacher's variance."""
    pairs = {
        "logits": (maps.policy_logits, wanted.policy_logits),
        "sizes": (maps.sizes, wanted.sizes),
        "offsets": (maps.offsets, wanted.offsets),
        "tokens": (state, wanted_state),
    }
    return {
        name: (got - want).square().mean() / want.var().clamp(min=1e-6)
        for name, (got, want) in pairs.items()
    }
