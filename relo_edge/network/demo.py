"""The built-in weights: files of this package, trained as docs/demo_weights.md and drlt.md say."""

from __future__ import annotations

from pathlib import Path

__all__ = ["find_demo_checkpoint", "find_drlt_checkpoint"]


def find_demo_checkpoint() -> Path:
    """The demo weights as a checkpoint file, in half precision."""
    return Path(__file__).with_name("demo.safetensors")


def find_drlt_checkpoint() -> Path:
    """Those of `drlt-demo`."""
    return Path(__file__).with_name("drlt_demo.safetensors")
