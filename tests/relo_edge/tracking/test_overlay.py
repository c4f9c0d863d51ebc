"""What is drawn: visible at any size, and never an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.geometry import place_crop
from relo_edge.tracker import SearchView, Track
from relo_edge.tracking.overlay import HEAT, LOST, PALETTE, draw_rate, draw_track, draw_view

FIRST = PALETTE[0]

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
    assert tuple(frame[y + height // 2, x]) == FIRST
    assert tuple(frame[y + height // 2, x + width - 1]) == FIRST
    assert tuple(frame[y + height - 1, x + width // 2]) == FIRST
    assert tuple(frame[y + height // 2, x + width // 2]) == (128, 128, 128)


def test_lost_looks_different():
    seen, lost = blank(320, 240), blank(320, 240)
    box = (100.0, 100.0, 80.0, 60.0)
    draw_track(seen, Track(box, 0.0, 0.5, lost=False), "t")
    draw_track(lost, Track(box, 0.0, 0.5, lost=True), "t")
    assert len(find_colour(seen, FIRST)) > 0 == len(find_colour(seen, LOST))
    assert len(find_colour(lost, LOST)) > 0
    # A dashed box still has its target's colour, in fewer places.
    bottom = [np.count_nonzero((f[159, 100:180] == FIRST).all(axis=1)) for f in (seen, lost)]
    assert 0 < bottom[1] < bottom[0] == 80


def test_each_target_has_its_colour():
    frame = blank(640, 480)
    for index in range(3):
        draw_track(frame, Track((200.0 * index, 200.0, 90, 60), 0, 0.5, False), "t", index=index)
    assert [len(find_colour(frame, colour)) > 0 for colour in PALETTE] == [True] * 3 + [False] * 5


def test_a_name_draws_no_control_character(monkeypatch):
    written = []
    monkeypatch.setattr("relo_edge.tracking.overlay.cv2.putText", lambda *a: written.append(a[1]))
    draw_track(blank(320, 240), Track((9, 9, 9, 9), 0, 0.5, False), "a\x1b[31m\u202eb")
    assert written == ["a\\x1b[31m\\u202eb 50%"]


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
    rows = find_colour(frame, FIRST)[:, 0]
    full = [row for row in set(rows) if np.count_nonzero(rows == row) >= 20]
    assert len(full) >= 8


def rate_cells(row, column):
    policy = np.zeros((16, 16), np.float32)
    policy[row, column] = 30.0
    return policy


@given(row=st.integers(0, 15), column=st.integers(0, 15))
def test_the_likeliest_cell_is_tinted_where_it_lies(row, column):
    frame = blank(400, 400)
    window = place_crop((160.0, 120.0, 40.0, 40.0), 4.0, 256)  # 160 pixels: 10 to a cell
    draw_view(frame, SearchView(window, rate_cells(row, column)))
    x, y = window.left + 10 * column + 5, window.top + 10 * row + 5
    near, far = frame[y, x].astype(int), frame[y, (x - window.left + 80) % 160 + window.left]
    assert np.abs(near - np.array(HEAT)).sum() < np.abs(np.array([128] * 3) - HEAT).sum() / 2
    assert np.abs(far.astype(int) - 128).max() < 3 or tuple(far) == HEAT
    assert tuple(frame[5, 5]) == (128, 128, 128)


@given(
    x=st.floats(-400, 700),
    y=st.floats(-400, 700),
    side=st.floats(1, 900),
    width=sides,
    height=sides,
    policy=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e30]),
)
def test_no_view_is_too_odd_to_draw(x, y, side, width, height, policy):
    frame = blank(width, height)
    logits = np.full((16, 16), policy, np.float32)
    with np.errstate(invalid="ignore"):
        draw_view(frame, SearchView(place_crop((x, y, side, side), 4.0, 256), logits))
    assert frame.shape == (height, width, 3)
