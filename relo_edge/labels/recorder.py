"""Label files written while tracking: rows are kept, and the file is written when it is closed."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from pathlib import Path

from relo_edge.geometry import clip_to_picture
from relo_edge.host.files import check_output, explain_failure, write_text
from relo_edge.host.locks import lock_output
from relo_edge.labels.coco import format_coco
from relo_edge.labels.cvat import format_cvat
from relo_edge.labels.label_studio import format_label_studio
from relo_edge.labels.rows import LabelledBox, LabelledClip, LabelledTarget, Labels
from relo_edge.tracker import Track

__all__ = ["LABEL_SUFFIXES", "LabelRecorder", "find_format"]

_FORMATS: dict[str, Callable[[Labels], str]] = {
    ".xml": format_cvat,
    ".labelstudio.json": format_label_studio,
    ".coco.json": format_coco,
}

LABEL_SUFFIXES = tuple(_FORMATS)


def find_format(path: Path) -> Callable[[Labels], str] | None:
    """What writes a label file of that name; None where it is no label file."""
    name = path.name.lower()
    return next((_FORMATS[suffix] for suffix in LABEL_SUFFIXES if name.endswith(suffix)), None)


class LabelRecorder:
    """Boxes of a clip, as labels; a second writer to the file is refused."""

    def __init__(
        self, path: Path, write_format: Callable[[Labels], str], clip: LabelledClip
    ) -> None:
        check_output(path, (".xml", ".json"))
        self.path = path
        self._format, self._clip = write_format, clip
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(lock_output(path.resolve()))
        self._targets: dict[int | str, LabelledTarget] = {}

    def write(self, frame: int, target: int | str, track: Track, time: float | None = None) -> None:  # noqa: ARG002
        """Keep a row; the time follows from the frame's number in these formats."""
        if not all(map(math.isfinite, track.box)):
            return
        label = target if isinstance(target, str) else "target"
        labelled = self._targets.setdefault(target, LabelledTarget(label))
        x, y, width, height = map(float, clip_to_picture(track.box, self._clip.size))
        visible = not track.lost and width > 0 and height > 0
        box = (x, y, max(width, 0.0), max(height, 0.0))
        labelled.boxes.append(LabelledBox(frame, box, float(track.confidence), visible))

    def close(self) -> None:
        """Write the file whole; closing twice writes the same again."""
        labels = Labels(self._clip, list(self._targets.values()))
        with explain_failure(self.path), self._lock:
            write_text(self.path, self._format(labels))
