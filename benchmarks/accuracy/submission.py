"""Results as the GOT-10k and TrackingNet servers take them."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from relo_edge.benchmarks.accuracy.workers import TrackedSequence
from relo_edge.errors import SourceError

__all__ = ["SUBMISSION", "write_submission"]

SUBMISSION = "submission.zip"


def write_submission(layout: str, tracked: Mapping[str, TrackedSequence], folder: Path) -> Path:
    """A zip file in the layout of the dataset's own tools, written whole or not at all."""
    list_files = _list_got10k if layout == "got10k" else _list_trackingnet
    target = folder / SUBMISSION
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{SUBMISSION}.") as scratch:
            part = Path(scratch) / SUBMISSION
            with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, one in sorted(tracked.items()):
                    for path, text in list_files(name, one).items():
                        archive.writestr(zipfile.ZipInfo(path), text, zipfile.ZIP_DEFLATED)
            part.replace(target)
    except OSError as error:
        raise SourceError(f"{target} cannot be written", found=error.strerror) from None
    return target


def _list_got10k(name: str, tracked: TrackedSequence) -> dict[str, str]:
    """One run: a tracker that repeats itself is not asked for more."""
    return {
        f"{name}/{name}_001.txt": _print_boxes(tracked),
        f"{name}/{name}_time.txt": "".join(f"{value:.8f}\n" for value in tracked.seconds),
    }


def _list_trackingnet(name: str, tracked: TrackedSequence) -> dict[str, str]:
    return {f"{name}.txt": _print_boxes(tracked)}


def _print_boxes(tracked: TrackedSequence) -> str:
    rows = np.round(tracked.boxes, 3).tolist()
    return "".join(",".join(f"{value:.3f}" for value in row) + "\n" for row in rows)
