"""Hard targets are what their names say, the same each time, and inside the picture."""

import numpy as np
import pytest

from relo_edge.clips.hard_targets import HARD_TARGETS, SIZE, make_hard_clip
from relo_edge.geometry import is_usable, read_box


@pytest.fixture(scope="module")
def clips():
    return {name: make_hard_clip(name, 3) for name in HARD_TARGETS}


@pytest.mark.parametrize("name", HARD_TARGETS)
def test_a_clip_is_the_same_each_time(name, clips):
    again = make_hard_clip(name, 3)
    assert np.array_equal(again.boxes, clips[name].boxes)
    for one, other in zip(clips[name].frames(), again.frames(), strict=True):
        assert one.dtype == np.uint8
        assert one.shape == (SIZE[1], SIZE[0], 3)
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", HARD_TARGETS)
def test_targets_can_be_set_and_lie_in_the_picture(name, clips):
    for box in clips[name].boxes:
        x, y, width, height = read_box(box)
        assert is_usable((x, y, width, height))
        assert x >= 0 <= y
        assert x + width <= SIZE[0] + 1e-9
        assert y + height <= SIZE[1] + 1e-9


def test_each_is_hard_in_its_own_way(clips):
    first = {name: next(clip.frames()) for name, clip in clips.items()}
    assert first["bright"].mean() > 180 > 100 > first["plain"].mean()
    assert (first["bright"] == 255).mean() > 0.005
    assert first["dark"].mean() < 20
    heights = {name: clip.boxes[0, 3] for name, clip in clips.items()}
    assert heights["small"] < 0.05 * SIZE[1]
    assert heights["large"] > 0.9 * SIZE[1]
    x, y, _, height = clips["border"].boxes[0]
    assert x == 0
    assert y + height == SIZE[1]
