"""Training and the labels for it: Python twins of `train` and `pseudo-label`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.errors import MissingDependency

if TYPE_CHECKING:
    from relo_edge.training.pseudo_labels import PseudoLabels
    from relo_edge.training.run import TrainResult

__all__ = ["pseudo_label", "train"]


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


def pseudo_label(
    videos: Sequence[str | Path],
    output: str | Path,
    trackers: Sequence[str],
    *,
    init_from: str | Path | None = None,
) -> PseudoLabels:
    """Label videos with the boxes on which trackers agree, forwards and backwards.

    Args:
        videos: videos or folders of videos; the first 900 frames of each are used.
        output: a new folder, which `train` takes as data.
        trackers: two or more words as `eval` takes them, such as `nano=BACKBONE.onnx,HEAD.onnx`.
        init_from: a file with targets of one video; without it, what moves is labelled.

    Returns:
        How many sequences and frames were labelled, and why starts were left out.

    Raises:
        InputError: fewer than two trackers, an output that exists, targets that cannot be.
        SourceError: a video that cannot be read, or no frames on which the trackers agree.
        MissingDependency: this OpenCV does not have a tracker.
    """
    from relo_edge.training.pseudo_labels import label_videos

    targets = Path(init_from) if init_from else None
    return label_videos(videos, Path(output), trackers, targets)
