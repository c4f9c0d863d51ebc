"""What a model is sent and how its coordinates become the frame's pixels."""

import numpy as np
import pytest

from relo_edge.errors import FinderError, InputError
from relo_edge.finder.units import choose_units, corners_to_box, shrink_picture


@pytest.mark.parametrize(
    ("size", "sent"),
    [
        ((1920, 1080), (1008, 560)),
        ((640, 480), (644, 476)),
        ((336, 252), (336, 252)),
        ((10, 3000), (56, 1008)),
        ((64, 48), (56, 56)),
        ((4000, 3000), (1008, 756)),
    ],
)
def test_sides_are_multiples_of_28_within_the_limit(size, sent):
    picture = shrink_picture(np.zeros((size[1], size[0], 3), np.uint8))
    assert (picture.shape[1], picture.shape[0]) == sent


@pytest.mark.parametrize(
    ("model", "units"),
    [
        ("Qwen/Qwen2.5-VL-3B-Instruct", "pixels"),
        ("qwen2.5vl:7b", "pixels"),
        ("WangBiao/R1-Track-GRPO-5k", "pixels"),
        ("Qwen/Qwen3-VL-4B-Instruct", "thousand"),
        ("qwen3-vl:2b", "thousand"),
        ("Qwen2-VL-2B-Instruct-AWQ", "thousand"),
        ("Qwen2_5_VL", "pixels"),
        ("OpenGVLab/InternVL3-2B", "thousand"),
    ],
)
def test_units_by_the_models_name(model, units):
    assert choose_units("auto", model) == units


def test_a_name_that_says_nothing_is_no_guess():
    with pytest.raises(InputError, match="'llava' are not known by its name; give --finder-units"):
        choose_units("auto", "llava")
    assert choose_units("thousand", "llava") == "thousand"
    with pytest.raises(InputError, match="expected auto | pixels | thousand"):
        choose_units("inches", "llava")


def test_pixels_of_the_picture_sent_and_thousandths():
    frame, sent = (1920, 1080), (1008, 560)
    box = corners_to_box((100, 56, 200, 112), "pixels", sent, frame)
    assert box == pytest.approx((190.476, 108, 190.476, 108), abs=1e-3)
    assert corners_to_box((250, 500, 500, 750), "thousand", sent, frame) == (480, 540, 480, 270)


def test_a_box_a_little_outside_is_cut_and_one_far_outside_refused():
    assert corners_to_box((-5, 10, 50, 60), "pixels", (1000, 500), (1000, 500))[:2] == (0, 10)
    with pytest.raises(FinderError, match="outside the picture.*check --finder-units"):
        corners_to_box((10, 10, 900, 60), "pixels", (560, 560), (560, 560))
    with pytest.raises(FinderError, match=r"too small to follow: found 2\.0x50\.0 pixels"):
        corners_to_box((10, 10, 12, 60), "pixels", (560, 560), (560, 560))
