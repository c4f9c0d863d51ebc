"""COCO's outlines as masks: polygons, run lengths plain and compressed, and what is none of it."""

import numpy as np
import pytest

from relo_edge.errors import SourceError
from relo_edge.training.outlines import OUTLINE, decode_mask, support_points


def test_a_polygon_fills_the_pixels_inside_it():
    mask = decode_mask([[2, 1, 6, 1, 6, 4, 2, 4]], (8, 10))
    assert mask.sum() >= 12
    rows, columns = np.nonzero(mask)
    assert (rows.min(), columns.min()) == (0, 2) or (rows.min(), columns.min()) == (1, 2)


def test_pieces_of_one_object_are_joined():
    mask = decode_mask([[0, 0, 3, 0, 3, 3, 0, 3], [6, 6, 9, 6, 9, 9, 6, 9]], (10, 10))
    assert mask[1, 1] == mask[8, 8] == 1
    assert mask[5, 5] == 0


def test_runs_go_down_the_columns():
    mask = decode_mask({"size": [2, 3], "counts": [1, 2, 3]}, (2, 3))
    assert mask.tolist() == [[0, 1, 0], [1, 0, 0]]


def test_compressed_runs_are_the_same_runs():
    # Written by hand with COCO's rule: five bits a character from 48 on, 32 says that more follow.
    def write(counts):
        text = ""
        for place, count in enumerate(counts):
            value = count - counts[place - 2] if place > 2 else count
            while True:
                bits, value = value & 31, value >> 5
                done = (value == 0 and not bits & 16) or (value == -1 and bits & 16)
                text += chr(48 + bits + (0 if done else 32))
                if done:
                    break
        return text

    counts = [5, 40, 3, 2, 50]
    plain = decode_mask({"size": [10, 10], "counts": counts}, (10, 10))
    assert plain.sum() == 42
    text = decode_mask({"size": [10, 10], "counts": write(counts)}, (10, 10))
    assert np.array_equal(plain, text)


def test_runs_of_another_size_are_scaled_to_the_picture():
    mask = decode_mask({"size": [2, 2], "counts": [0, 2, 2]}, (4, 4))
    assert mask.tolist() == [[1, 1, 0, 0]] * 4


@pytest.mark.parametrize(
    "broken",
    [
        {"size": [2, 2], "counts": [1, 2]},
        {"size": [2, 2], "counts": [5, -1]},
        {"counts": [4]},
        [["a", "b", "c", "d", "e", "f"]],
        [[1, 2, 3]],
        7,
    ],
)
def test_what_is_no_outline_is_refused_by_name(broken):
    with pytest.raises(SourceError, match="segmentation: found"):
        decode_mask(broken, (4, 4))


def test_support_points_hold_the_box_at_any_angle():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(400, 2)) * (3, 1)
    kept = support_points(points)
    assert kept.shape == (OUTLINE, 2)
    for angle in np.linspace(0, 3, 7):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        whole, few = points @ turn.T, kept @ turn.T
        assert np.abs(whole.max(axis=0) - few.max(axis=0)).max() < 0.15
    assert np.array_equal(kept.max(axis=0), points.astype(np.float32).max(axis=0))
