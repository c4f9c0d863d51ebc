"""Label Studio's JSON for videos: one `videorectangle` prediction a target."""

from __future__ import annotations

import json
from typing import Any

from relo_edge import __version__
from relo_edge.labels.rows import LabelledBox, LabelledClip, LabelledTarget, Labels

__all__ = ["format_label_studio"]


def format_label_studio(labels: Labels) -> str:
    """The file's text, for a project with the template "Video object tracking".

    Its control is called `box` and its video `video` there.
    """
    results = [_build_result(number, t, labels) for number, t in enumerate(labels.targets)]
    prediction = {"model_version": f"relo-edge {__version__}", "result": results}
    task = {"data": {"video": labels.clip.name}, "predictions": [prediction]}
    return json.dumps([task], indent=1) + "\n"


def _build_result(number: int, target: LabelledTarget, labels: Labels) -> dict[str, Any]:
    *others, last = target.boxes
    boxes = [*others, last._replace(visible=last.visible and last.frame == labels.last_frame)]
    frames = labels.last_frame + 1
    return {
        "id": f"target{number}",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": {
            "framesCount": frames,
            "duration": frames / labels.clip.fps,
            "labels": [target.label],
            "sequence": [_build_keyframe(box, labels.clip) for box in boxes],
        },
    }


def _build_keyframe(box: LabelledBox, clip: LabelledClip) -> dict[str, Any]:
    """Frames count from 1 there, and lengths are percentages of the picture."""
    x, y, width, height = box.box
    columns, rows = clip.size
    return {
        "frame": box.frame + 1,
        "time": box.frame / clip.fps,
        "enabled": box.visible,
        "rotation": 0,
        "x": 100 * x / columns,
        "y": 100 * y / rows,
        "width": 100 * width / columns,
        "height": 100 * height / rows,
    }
