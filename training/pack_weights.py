"""Trained weights as a small file: half precision, nothing but tensors."""

from __future__ import annotations

from pathlib import Path

import torch

from relo_edge.host.files import replace_file
from relo_edge.network.checkpoint import read_checkpoint

__all__ = ["pack_weights"]


def pack_weights(checkpoint: Path, output: Path) -> None:
    """Write a run's weights as float16 safetensors, whole or not at all."""
    from safetensors.torch import save_file

    weights = read_checkpoint(checkpoint).weights
    halves = {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in weights.items()
    }
    with replace_file(output) as part:
        save_file(halves, part)
