"""OpenCV's interface, side by side with one of OpenCV's own trackers."""

import cv2
import numpy as np
import pytest
from clips import StillRuntime

from relo_edge import Tracker, open_runtime
from relo_edge.adapters import OpenCvTracker
from relo_edge.errors import InputError
from relo_edge.synthetic.clip import make_clip

BOX = (30, 20, 24, 18)


def follow(tracker, frames, box):
    first, *others = frames
    tracker.init(first, box)
    return [tracker.update(frame) for frame in others]


def test_it_answers_in_the_form_of_opencvs_trackers():
    clip = make_clip(3, 4)
    frames = list(clip.frames())
    box = tuple(int(value) for value in clip.boxes[0])
    theirs = follow(cv2.TrackerMIL_create(), frames, box)
    with open_runtime("demo", "onnxruntime") as runtime:
        ours = follow(OpenCvTracker(runtime), frames, box)
    for (ok, mine), (_, other) in zip(ours, theirs, strict=True):
        assert ok is True
        assert type(mine) is type(other)
        assert [type(value) for value in mine] == [type(value) for value in other]


def test_its_boxes_are_the_trackers_rounded():
    clip = make_clip(3, 6)
    frames, box = list(clip.frames()), tuple(clip.boxes[0].tolist())
    with open_runtime("demo", "onnxruntime") as runtime:
        tracker = Tracker(runtime, color="bgr")
        tracker.init(frames[0], box)
        exact = [tracker.update(frame).box for frame in frames[1:]]
        rounded = [found for _, found in follow(OpenCvTracker(runtime), frames, box)]
    assert rounded == [tuple(round(value) for value in found) for found in exact]


def test_a_lost_target_is_not_ok():
    frames = [np.zeros((64, 96, 3), np.uint8)] * 6
    answers = [ok for ok, _ in follow(OpenCvTracker(StillRuntime(sure=False)), frames, BOX)]
    assert answers == [True, True, False, False, False]


def test_grey_images_are_taken_as_opencv_takes_them():
    grey = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    with open_runtime("demo", "onnxruntime") as runtime:
        found, same = (
            follow(OpenCvTracker(runtime), [image] * 3, BOX)
            for image in (grey, cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR))
        )
    assert found == same


@pytest.mark.parametrize(
    "image", [np.zeros((64, 96), np.float32), np.zeros((0, 0), np.uint8), None]
)
def test_what_is_no_image_is_refused_in_one_line(image):
    with pytest.raises(InputError, match="frame"):
        OpenCvTracker(StillRuntime()).init(image, BOX)
