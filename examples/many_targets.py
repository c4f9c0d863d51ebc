"""Follow several targets as one batch; they come and go while it runs: `python many_targets.py`."""

import numpy as np

from relo_edge import MultiTracker, open_runtime
from relo_edge.synthetic.clip import make_clip

BUNDLE = "demo"
CAMERAS = 3
FRAMES = 30
LEAVES = 20
"""The frame in which the first target is followed no longer."""


def main() -> None:
    """Print each target's box in every tenth frame."""
    # Three synthetic clips side by side stand for a wide picture with three targets.
    clips = [make_clip(seed, FRAMES, (320, 240)) for seed in range(CAMERAS)]
    pictures = zip(*(clip.frames() for clip in clips), strict=True)
    with open_runtime(BUNDLE, batch=CAMERAS) as runtime:
        tracker = MultiTracker(runtime, color="bgr")
        names: dict[int, str] = {}
        for number, parts in enumerate(pictures):
            frame = np.hstack(parts)
            tracks = tracker.update(frame)
            if number < CAMERAS:  # a new target in each of the first frames
                x, y, width, height = clips[number].boxes[number].tolist()
                target = tracker.add(frame, (x + 320 * number, y, width, height))
                names[target] = f"target {number}"
            if number == LEAVES:
                tracker.remove(min(names))
            if number % 10 == 9:
                for target, track in tracks.items():
                    print(number, names[target], [round(value) for value in track.box])


if __name__ == "__main__":
    main()
