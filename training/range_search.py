"""INT8 ranges of the graph's tensors, searched on a few batches of clips."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relo_edge.contract import PIXEL_REACH, PIXELS
from relo_edge.errors import CheckpointError
from relo_edge.network.relo import Relo
from relo_edge.training.fake_quant import LEVELS, TINY, GraphTwin, Visit, round_tensor
from relo_edge.training.render import ClipBatch
from relo_edge.training.rollout import roll_out

__all__ = ["find_ranges"]

SHARES = tuple(2 ** (-step / 4) for step in range(17))
"""Candidate ranges as shares of the largest magnitude."""


@torch.no_grad()
def find_ranges(
    network: Relo, batches: Sequence[ClipBatch], *, attention: bool
) -> dict[str, float]:
    """For each tensor, the range with the least squared error of rounding and saturation."""
    largest: dict[str, Tensor] = {}
    errors: dict[str, Tensor] = {}

    def note_largest(name: str, values: Tensor) -> Tensor:
        reached = values.abs().amax()
        if not torch.isfinite(reached):
            found = "NaN or infinity"
            raise CheckpointError(f"weights at {name}", found=found, expected="numbers")
        largest[name] = torch.maximum(largest.get(name, reached), reached)
        return values

    def note_errors(name: str, values: Tensor) -> Tensor:
        rounded = (round_tensor(values, share * largest[name]) for share in SHARES)
        found = torch.stack([(one - values).square().mean() for one in rounded])
        errors[name] = errors.get(name, 0) + found
        return values

    _show_all(network, batches, note_largest, attention)
    largest = {name: value.clamp(min=TINY / SHARES[-1] * LEVELS) for name, value in largest.items()}
    _show_all(network, batches, note_errors, attention)
    best = {name: SHARES[int(found.argmin())] for name, found in errors.items()}
    ranges = {name: float(value * best[name]) for name, value in largest.items()}
    return {**ranges, PIXELS: PIXEL_REACH}


def _show_all(network: Relo, batches: Sequence[ClipBatch], visit: Visit, attention: bool) -> None:
    twin = GraphTwin(network, visit, attention, rounds_weights=False)
    for batch in batches:
        for _ in roll_out(twin, batch):
            pass
