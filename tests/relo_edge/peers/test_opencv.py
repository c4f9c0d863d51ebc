"""OpenCV's trackers where OpenCV itself fails."""

import numpy as np
import pytest

from relo_edge.errors import InputError
from relo_edge.host.opencv import cv2
from relo_edge.peers.registry import open_peer

FRAME = np.random.default_rng(0).integers(0, 256, (90, 120, 3), np.uint8)
BOX = (30.0, 30.0, 20.0, 20.0)


class Failing:
    """As TrackerVit on a black frame."""

    def init(self, frame, box):
        pass

    def update(self, frame):
        raise cv2.error("out of memory")


def test_a_failure_of_opencv_is_a_target_not_found():
    tracker = open_peer("mil")
    tracker._tracker = Failing()
    tracker.init(FRAME, BOX)
    track = tracker.update(FRAME)
    assert (track.lost, track.box) == (True, BOX)


def test_frames_of_another_size_are_refused():
    tracker = open_peer("mil")
    tracker.init(FRAME, BOX)
    with pytest.raises(InputError, match="frame size changed: found 60x45, expected 120x90"):
        tracker.update(FRAME[::2, ::2])
