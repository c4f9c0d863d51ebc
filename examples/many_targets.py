"""Follow several targets as one batch; they come and go while it runs: `python many_targets.py`."""

from itertools import islice

import numpy as np

from relo_edge import MultiTracker, open_runtime, read_live

BUNDLE = "demo"
SOURCE, BOX, WIDTH = "demo", (179, 94, 73, 55), 640
TARGETS = 3
FRAMES = 30
LEAVES = 20
"""The frame in which the first target is followed no longer."""


def main() -> None:
    """Print each target's box in every tenth frame."""
    x, y, width, height = BOX
    with open_runtime(BUNDLE, batch=TARGETS) as runtime, read_live(SOURCE) as source:
        tracker = MultiTracker(runtime, color="bgr")
        names: dict[int, str] = {}
        for number, picture in enumerate(islice(source, FRAMES)):
            # Three copies side by side stand for a wide picture with three targets.
            frame = np.hstack([picture.image] * TARGETS)
            tracks = tracker.update(frame)
            if number < TARGETS:  # a new target in each of the first frames
                target = tracker.add(frame, (x + WIDTH * number, y, width, height))
                names[target] = f"target {number}"
            if number == LEAVES:
                tracker.remove(min(names))
            if number % 10 == 9:
                for target, track in tracks.items():
                    print(number, names[target], [round(value) for value in track.box])


if __name__ == "__main__":
    main()
