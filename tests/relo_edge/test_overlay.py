"""What is drawn: visible at any size, and never an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.overlay import FOLLOWED, LOST, draw_rate, draw_track
from relo_edge.tracker import Track

anything = st.floats(allow_nan=True, allow_infinity=True)
sides = st.integers(1, 300)


def blank(width, height):
    return np.full((height, width, 3), 128, np.uint8)


def find_colour(frame, colour):
    return np.argwhere((frame == np.array(colour, np.uint8)).all(axis=2))


@given(box=st.tuples(anything, anything, anything, anything), width=sides, height=sides)
def test_no_box_is_too_odd_to_draw(box, width, height):
    frame = blank(width, height)
    draw_track(frame, Track(box, 0.0, 0.5, lost=False), "anything")
    draw_rate(frame, 12.3)
    assert frame.shape == (height, width, 3)


@given(
    x=st.integers(60, 100),
    y=st.integers(60, 90),
    width=st.integers(100, 200),
    height=st.integers(60, 120),
)
def test_box_stands_where_it_should(x, y, width, height):
    frame = blank(320, 240)
    draw_track(frame, Track((x, y, width, height), 0.0, 0.5, lost=False), "t")
    assert tuple(frame[y + height // 2, x]) == FOLLOWED
    assert tuple(frame[y + height // 2, x + width - 1]) == FOLLOWED
    assert tuple(frame[y + height - 1, x + width // 2]) == FOLLOWED
    assert tuple(frame[y + height // 2, x + width // 2]) == (128, 128, 128)


def test_lost_looks_different():
    seen, lost = blank(320, 240), blank(320, 240)
    box = (100.0, 100.0, 80.0, 60.0)
    draw_track(seen, Track(box, 0.0, 0.5, lost=False), "t")
    draw_track(lost, Track(box, 0.0, 0.5, lost=True), "t")
    assert len(find_colour(seen, FOLLOWED)) > 0 == len(find_colour(seen, LOST))
    assert len(find_colour(lost, LOST)) > 0 == len(find_colour(lost, FOLLOWED))


@pytest.mark.parametrize(("width", "height"), [(320, 240), (1280, 720), (3840, 2160)])
def test_lettering_grows_with_the_picture(width, height):
    frame = blank(width, height)
    draw_rate(frame, 25.0)
    rows, columns = np.nonzero((frame != 128).any(axis=2))
    assert 0.03 < (rows.max() + 1) / height < 0.12
    assert 0.05 < (columns.max() + 1) / width < 0.35


@pytest.mark.parametrize("box", [(-50, -50, 60, 60), (310, 230, 60, 60), (100, 0, 50, 50)])
def test_label_stays_in_the_picture(box):
    frame = blank(320, 240)
    draw_track(frame, Track(box, 0.0, 0.5, lost=False), "t")
    rows = find_colour(frame, FOLLOWED)[:, 0]
    full = [row for row in set(rows) if np.count_nonzero(rows == row) >= 20]
    assert len(full) >= 8
