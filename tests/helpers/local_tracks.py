"""A small clip followed by a tracker of this process, and how far another's boxes are from it."""

import numpy as np

from relo_edge import Tracker, open_runtime
from relo_edge.synthetic.clip import make_clip


def make_frames(seed, count):
    """Frames of 320x240, and the target's box in the first."""
    clip = make_clip(seed, count, (320, 240))
    return list(clip.frames()), tuple(clip.boxes[0])


def track_here(bundle, frames, box, *, forget=None, **options):
    """Its tracks in all frames but the first; before frame `forget`, the history goes."""
    with open_runtime(bundle, "onnxruntime", threads=1) as runtime:
        tracker = Tracker(runtime, color="bgr", **options)
        tracker.init(frames[0], box)
        tracks = []
        for index, frame in enumerate(frames[1:], 1):
            if index == forget:
                runtime.forget(0)
            tracks.append(tracker.update(frame))
        return tracks


def measure_distance(found, expected):
    """The largest difference of a coordinate, in pixels."""
    return max(
        np.abs(np.subtract(one.box, other.box)).max()
        for one, other in zip(found, expected, strict=True)
    )
