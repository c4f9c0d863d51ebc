"""Sequences and tracks made up for tests of what is done with them."""

import numpy as np

from relo_edge.benchmarks.accuracy.workers import TrackedSequence


def make_track(frames=4, start=1.0):
    """Boxes that move by one pixel a frame."""
    boxes = np.tile([start, 5.0, 20.0, 10.0], (frames, 1))
    boxes[:, 0] += np.arange(frames) / 3
    return TrackedSequence(boxes, np.linspace(0.01, 0.02, frames))


class Wish:
    """A wish to stop that comes after some looks."""

    def __init__(self, after=10**9):
        self.left = after

    def is_set(self):
        self.left -= 1
        return self.left < 0
