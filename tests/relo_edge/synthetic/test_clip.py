"""Synthetic clips: the same from the same seed, and true to their boxes."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relo_edge.errors import InputError
from relo_edge.synthetic.clip import make_clip
from relo_edge.synthetic.sprites import Sprite, bound_ellipses, draw_sprite


def white_disc(radius=32):
    texture = np.full((2 * radius + 8, 2 * radius + 8, 4), 255, np.uint8)
    steps = np.arange(2 * radius + 8) - (radius + 3.5)
    inside = np.clip(radius + 0.5 - np.hypot(steps[:, None], steps[None]), 0, 1)
    texture[..., 3] = (255 * inside).round()
    return Sprite(texture, radius)


DISC = white_disc()

seeds = st.integers(0, 2**31)


def test_same_seed_same_clip():
    first, second = make_clip(3, 6, (160, 120)), make_clip(3, 6, (160, 120))
    assert np.array_equal(first.boxes, second.boxes)
    pictures = list(first.frames())
    for again in (second.frames(), first.frames()):
        for frame, picture in zip(again, pictures, strict=True):
            assert np.array_equal(frame, picture)


def test_other_seed_other_clip():
    first, second = make_clip(3, 6, (160, 120)), make_clip(4, 6, (160, 120))
    assert not np.allclose(first.boxes, second.boxes)
    assert not np.array_equal(next(first.frames()), next(second.frames()))


def test_frames_are_drawn_one_by_one():
    clip = make_clip(0, 100_000, (160, 120))
    frames = clip.frames()
    first, second = next(frames), next(frames)
    assert (first.shape, first.dtype) == ((120, 160, 3), np.uint8)
    assert not np.array_equal(first, second)
    assert (len(clip), clip.boxes.shape, clip.boxes.dtype) == (100_000, (100_000, 4), np.float64)


@given(seed=seeds, size=st.sampled_from([(640, 360), (160, 120), (64, 64), (200, 900)]))
def test_boxes_stay_in_the_picture(seed, size):
    boxes = make_clip(seed, 300, size).boxes
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    assert (low >= 0).all()
    assert (high <= np.array(size) + 1e-9).all()
    assert boxes[:, 2:].min() > 0.02 * min(size)
    assert (low[0] > 0.02 * min(size)).all()
    assert (high[0] < np.array(size) - 0.02 * min(size)).all()


@given(seed=seeds)
def test_target_moves_grows_and_turns_smoothly(seed):
    target = make_clip(seed, 300).target
    assert np.ptp(target[:, 0]) > 10
    assert np.ptp(target[:, 2] * target[:, 3]) > 0
    assert np.ptp(target[:, 2] / target[:, 3]) > 0
    assert np.ptp(target[:, 4]) > 0.05
    step = np.hypot(*np.diff(target[:, :2], axis=0).T)
    assert (step < target[1:, 2]).all()


def test_lookalike_comes_and_goes():
    clip = make_clip(5, 330)
    shown = (clip.lookalike[:, 0] > 0) & (clip.lookalike[:, 0] < 640)
    assert 0.3 < shown.mean() < 0.7
    visits = np.count_nonzero(np.diff(shown.astype(int)) == 1)
    assert visits >= 2


@settings(max_examples=60)
@given(
    x=st.floats(45, 95),
    y=st.floats(45, 75),
    along=st.floats(6, 40),
    across=st.floats(6, 40),
    angle=st.floats(-7, 7),
)
def test_what_is_drawn_fills_its_box(x, y, along, across, angle):
    """Drawn white on black, the target's pixels span the true box to within a pixel."""
    canvas = np.zeros((120, 140, 3), np.uint8)
    pose = np.array([x, y, along, across, angle])
    draw_sprite(canvas, DISC, pose)
    left, top, width, height = bound_ellipses(pose[None])[0]
    rows, columns = np.nonzero(canvas[..., 0] > 100)
    # The canvas is larger than what is asked of x and y, so nothing is cut off.
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.array(drawn) - [left, top, left + width, top + height]).max() < 1.6


@given(x=st.floats(-99, 199), y=st.floats(-99, 199), angle=st.floats(-7, 7))
def test_target_partly_outside_is_cut_at_the_edge(x, y, angle):
    whole, part = np.zeros((300, 300, 3), np.uint8), np.zeros((100, 100, 3), np.uint8)
    draw_sprite(whole, DISC, np.array([x + 100, y + 100, 40, 20, angle]))
    draw_sprite(part, DISC, np.array([x, y, 40, 20, angle]))
    assert np.abs(whole[100:200, 100:200].astype(int) - part).max() <= 2


def test_target_is_where_the_truth_says():
    """The still ground is the same in both clips; only inside the boxes do they differ."""
    clip = make_clip(8, 1, (320, 240))
    moved = clip.target.copy()
    moved[:, 0] += 1000
    frame = next(clip.frames()).astype(int)
    without = next(replace(clip, target=moved).frames()).astype(int)
    rows, columns = np.nonzero(np.abs(frame - without).max(axis=2) > 20)
    x, y, width, height = clip.boxes[0]
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(np.array(drawn) - [x, y, x + width, y + height]).max() < 3


@pytest.mark.parametrize(
    ("seed", "frames", "size"), [(-1, 5, (640, 360)), (0, 0, (640, 360)), (0, 5, (640, 40))]
)
def test_impossible_clip_is_refused(seed, frames, size):
    with pytest.raises(InputError, match="synthetic clip"):
        make_clip(seed, frames, size)
