"""Trained weights as a small file: half precision, and a card that says where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from relo_edge.host.files import replace_file
from relo_edge.network.checkpoint import read_checkpoint

__all__ = ["pack_weights", "read_card"]


def pack_weights(checkpoint: Path, output: Path, card: Mapping[str, str] | None = None) -> None:
    """Write a run's weights as float16 safetensors; the card goes into the file's metadata."""
    from safetensors.torch import save_file

    weights = read_checkpoint(checkpoint).weights
    halves = {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    with replace_file(output) as part:
        save_file(halves, part, metadata=dict(card or {}))


def read_card(weights: Path) -> dict[str, str]:
    """The card of a packed file; empty where there is none."""
    from safetensors import safe_open

    with safe_open(weights, "pt") as opened:
        return dict(opened.metadata() or {})
