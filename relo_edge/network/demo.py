"""The built-in demo weights: a file of this package, trained as docs/demo_weights.md says."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_demo_checkpoint"]


def find_demo_checkpoint() -> Path:
    """The demo weights as a checkpoint file, in half precision."""
    return Path(__file__).with_name("demo.safetensors")
