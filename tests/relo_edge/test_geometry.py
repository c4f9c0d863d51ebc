"""Crops and boxes against the release's, and what must hold for any box."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import load_vectors

from relo_edge.errors import InputError
from relo_edge.geometry import (
    CropWindow,
    box_in_template,
    box_iou,
    box_to_image,
    clip_box,
    crop_into,
    hann_window,
    place_crop,
)

RECORDED = load_vectors("crops")
SIZES = {2.0: 128, 4.0: 256}

finite = st.floats(-500, 500)
positive = st.floats(0.5, 500)
boxes = st.tuples(finite, finite, positive, positive)


def recorded_window(index):
    box = tuple(float(v) for v in RECORDED["boxes_xywh"][index])
    factor = float(RECORDED["factors"][index])
    return box, place_crop(box, factor, SIZES[factor])


@pytest.mark.parametrize("index", range(len(RECORDED["factors"])))
def test_crops_equal_the_release(index):
    _, window = recorded_window(index)
    expected = RECORDED[f"crop_{index}"]
    crop = crop_into(np.full_like(expected, 7), RECORDED["frame"], window)
    assert np.abs(crop.astype(int) - expected).max() <= 1
    assert window.scale == pytest.approx(RECORDED["scales"][index], abs=1e-6)


@pytest.mark.parametrize("index", range(len(RECORDED["factors"])))
def test_template_boxes_equal_the_release(index):
    box, window = recorded_window(index)
    expected = RECORDED["template_boxes_xywh"][index]
    np.testing.assert_allclose(box_in_template(box, window, 128), expected, rtol=0, atol=1e-6)


def test_the_last_line_of_the_picture_is_never_shown():
    frame = np.full((40, 40, 3), 200, np.uint8)
    crop = crop_into(np.empty((40, 40, 3), np.uint8), frame, CropWindow(0, 0, 40, 1.0))
    assert crop[:39, :39].min() == 200
    assert crop[39].max() == crop[:, 39].max() == 0


def test_a_crop_beyond_the_picture_is_black():
    frame = np.full((40, 40, 3), 200, np.uint8)
    crop = crop_into(np.full((16, 16, 3), 9, np.uint8), frame, CropWindow(100, -90, 20, 0.8))
    assert crop.max() == 0


@pytest.mark.parametrize("box", [(3, 3, 0, 20), (3, 3, 0.0, 0.0)])
def test_a_box_without_area_is_refused(box):
    with pytest.raises(InputError, match="an area to crop"):
        place_crop(box, 4.0, 256)


def test_the_window_is_the_releases():
    k = np.arange(1, 17)
    hann = 0.5 * (1 - np.cos(2 * math.pi * k / 17))
    np.testing.assert_allclose(hann_window(16, 1.0), np.outer(hann, hann), rtol=1e-6)
    np.testing.assert_allclose(hann_window(16, 3.2), np.outer(hann, hann) ** 3.2, rtol=1e-6)
    assert hann_window(5, 0.0).tolist() == np.ones((5, 5)).tolist()


@given(boxes, st.sampled_from([2.0, 4.0]))
def test_a_crop_maps_its_own_box_back(box, factor):
    window = place_crop(box, factor, 256)
    side = 256 / window.scale
    centred = np.array([0.5, 0.5, box[2] / side, box[3] / side], np.float32)
    np.testing.assert_allclose(box_to_image(centred, box, window.scale, 256), box, atol=1e-3)


@given(boxes, st.integers(20, 400), st.integers(20, 400))
def test_a_clipped_box_lies_in_the_picture(box, width, height):
    x, y, w, h = clip_box(box, width, height, 10)
    assert 0 <= x <= width - 10
    assert 0 <= y <= height - 10
    assert w >= 10
    assert h >= 10
    assert x + w <= width + 1e-9
    assert y + h <= height + 1e-9


@given(boxes, boxes)
def test_iou_is_a_symmetric_share(first, second):
    iou = box_iou(first, second)
    assert 0 <= iou <= 1 + 1e-9
    assert iou == pytest.approx(box_iou(second, first))
    assert box_iou(first, first) == pytest.approx(1)


def test_iou_of_a_known_pair():
    assert box_iou((0, 0, 10, 10), (5, 5, 10, 10)) == pytest.approx(25 / 175)
    assert box_iou((0, 0, 10, 10), (10, 0, 10, 10)) == 0
