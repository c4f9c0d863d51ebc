"""Targets chosen from a picture: on texture, inside, apart; none where there is nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relo_edge.clips.target_choice import choose_targets
from relo_edge.geometry import box_iou, clip_to_picture, is_usable


def make_picture(width=320, height=240):
    return np.full((height, width, 3), 120, np.uint8)


def test_targets_lie_on_texture():
    picture = make_picture()
    patch = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    picture[100:160, 200:260] = np.kron(patch, np.ones((5, 5, 1), np.uint8))
    targets = choose_targets(picture, 0)
    assert targets
    assert all(box_iou(box, (200, 100, 60, 60)) > 0 for box in targets)


def test_an_edge_alone_is_no_target():
    picture = make_picture()
    picture[:, 160:] = 200
    assert choose_targets(picture, 0) == []


def test_nothing_to_see_is_no_target():
    assert choose_targets(make_picture(), 0) == []


@settings(max_examples=40)
@given(
    width=st.integers(1, 400),
    height=st.integers(1, 400),
    seed=st.integers(0, 2**31),
    data=st.data(),
)
def test_targets_are_inside_and_apart(width, height, seed, data):
    noise = np.random.default_rng(data.draw(st.integers(0, 9)))
    picture = noise.integers(0, 256, (height, width, 3), np.uint8)
    targets = choose_targets(picture, seed)
    assert targets == choose_targets(picture, seed)
    assert len(targets) <= 3
    assert targets or min(width, height) < 24
    for index, box in enumerate(targets):
        assert is_usable(box)
        assert clip_to_picture(box, (width, height)) == box
        assert all(box_iou(box, other) == 0 for other in targets[:index])


@pytest.mark.parametrize(
    ("box", "seen", "usable"),
    [
        ((10, 20, 30, 40), (10, 20, 30, 40), True),
        ((-10, -20, 30, 40), (0, 0, 20, 20), True),
        ((90, 50, 30, 40), (90, 50, 10, 10), True),
        ((98, 50, 30, 40), (98, 50, 2, 10), False),
        ((200, 50, 30, 40), (200, 50, -100, 10), False),
        ((10, 20, 3, 40), (10, 20, 3, 40), False),
    ],
)
def test_what_the_picture_shows_of_a_box(box, seen, usable):
    assert clip_to_picture(box, (100, 60)) == seen
    assert is_usable(seen) is usable


def test_an_absent_box_is_not_usable():
    nan = float("nan")
    assert not is_usable(clip_to_picture((nan, nan, nan, nan), (100, 60)))
