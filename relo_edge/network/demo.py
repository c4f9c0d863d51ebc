"""The built-in demo weights: not trained yet, drawn by a recipe, and every user is told so."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from relo_edge.errors import MissingDependency
from relo_edge.files import find_cache
from relo_edge.network.recipe import draw_weights
from relo_edge.spec import VARIANTS

__all__ = ["DEMO_IS_TRAINED", "find_demo_checkpoint"]

DEMO_IS_TRAINED = False
NAME = "demo-untrained-1.safetensors"


def find_demo_checkpoint() -> Path:
    """The demo weights as a checkpoint file; drawn once, then kept in the user's cache."""
    path = find_cache() / NAME
    if not path.exists():
        _write_weights(path)
    return path


def _write_weights(path: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ImportError as error:
        raise MissingDependency(
            "demo weights need torch", found=error, fix="`pip install 'relo-edge[export]'`"
        ) from None
    descriptor, part = tempfile.mkstemp(dir=path.parent, prefix=f".{NAME}.")
    os.close(descriptor)
    try:
        save_file(dict(draw_weights(VARIANTS["demo"])), part)
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
