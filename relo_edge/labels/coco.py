"""COCO's instances JSON: an image a frame, an annotation for each target seen in it."""

from __future__ import annotations

import json
import math
from typing import Any

from relo_edge.labels.rows import Labels

__all__ = ["format_coco"]


def format_coco(labels: Labels) -> str:
    """The file's text; images have the names that CVAT and ffmpeg's `frame_%06d.png` give."""
    width, height = labels.clip.size
    numbers = sorted({box.frame for target in labels.targets for box in target.boxes})
    images = [
        {
            "id": number + 1,
            "file_name": f"frame_{number:06d}.png",
            "width": width,
            "height": height,
        }
        for number in numbers
    ]
    content = {
        "info": {"description": labels.clip.name},
        "images": images,
        "categories": [{"id": at, "name": name} for at, name in enumerate(labels.names, 1)],
        "annotations": _list_annotations(labels),
    }
    return json.dumps(content) + "\n"


def _list_annotations(labels: Labels) -> list[dict[str, Any]]:
    """Lost targets have none: their boxes show something else."""
    seen = [
        (number, target, box)
        for number, target in enumerate(labels.targets)
        for box in target.boxes
        if box.visible
    ]
    return [
        {
            "id": at,
            "image_id": box.frame + 1,
            "category_id": labels.names.index(target.label) + 1,
            "track_id": number,
            "bbox": list(box.box),
            "area": box.box[2] * box.box[3],
            "iscrowd": 0,
            **_tell_score(box.confidence),
        }
        for at, (number, target, box) in enumerate(seen, 1)
    ]


def _tell_score(confidence: float) -> dict[str, float]:
    """Instances need no score, and JSON has no NaN: a tracker that tells none gets none."""
    return {"score": confidence} if math.isfinite(confidence) else {}
