"""One stage of training: `relo-edge train` and its Python twin."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.errors import MissingDependency

if TYPE_CHECKING:
    from relo_edge.training.run import TrainResult

__all__ = ["train"]


def train(stage: str, output: str | Path, **options: Any) -> TrainResult:
    """Train one stage, or go on with the run that the folder holds.

    Args:
        stage: warmup, reinforce, slt, qat or drlt.
        output: the run's folder.
        **options: the other fields of `relo_edge.training.requests.TrainRequest`.

    Returns:
        What was reached, and whether the stage is finished.

    Raises:
        InputError: an unknown stage or variant, or options that the stage does not take.
        SourceError: training data that cannot be read.
        MissingDependency: torch, safetensors or matplotlib is not installed.
    """
    for package in ("torch", "safetensors", "matplotlib"):
        if find_spec(package) is None:
            fix = "`pip install 'relo-edge[train]'`"
            raise MissingDependency(f"{package} is not installed", fix=fix)
    from relo_edge.training.run import TrainRequest, run_training

    return run_training(TrainRequest(stage=stage, output=Path(output), **options))
