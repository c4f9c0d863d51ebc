"""The figures equal those of the public evaluation code, and no prediction breaks them."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.errors import InputError
from relo_edge.measures.accuracy import (
    CENTRE_THRESHOLDS,
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    measure_auc,
    measure_toolkit_overlaps,
    merge_scores,
    score_boxes,
)

# Written by tests/data/record_accuracy.py from the got10k toolkit 0.1.3 and the analysis code of
# the release's lineage.
CASES = json.loads((Path(__file__).parents[2] / "data" / "accuracy.json").read_text())
PICTURE = (320, 240)
TRUTH = np.tile([100.0, 80, 40, 20], (5, 1))


def score_case(case):
    truth = np.array(case["truth"], np.float64)
    hidden = np.isin(np.arange(len(truth)), case["hidden"])
    picture = PICTURE if case["dataset"] == "got10k" else None
    return score_boxes(case["boxes"], truth, hidden, dataset=case["dataset"], picture=picture)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["dataset"])
def test_figures_are_the_public_codes(case):
    score = score_case(case)
    for name, curve in score.curves.to_dict().items():
        assert curve == pytest.approx(case[name], abs=1e-6), name
    assert score.auc == pytest.approx(np.mean(case["success"]), abs=1e-6)
    assert (score.precision, score.norm_precision) == pytest.approx(
        (case["precision"][20], case["norm_precision"][20]), abs=1e-6
    )
    rates = (score.ao, score.success_rate(0.5), score.success_rate(0.75))
    assert rates == pytest.approx((case["ao"], case["sr50"], case["sr75"]), abs=1e-6)


def test_no_overlap_is_above_the_last_threshold():
    assert measure_auc(np.ones(3)) == pytest.approx(20 / 21)
    assert measure_auc(np.array([0.51, 0.0])) == pytest.approx(11 / 42)


def test_a_dataset_is_the_mean_of_curves_and_the_pool_of_overlaps():
    cases = CASES[:4]
    merged = merge_scores([score_case(case) for case in cases])
    assert merged.auc == pytest.approx(np.mean([case["success"] for case in cases]), abs=1e-6)
    weights = [case["n"] for case in cases]
    assert len(set(weights)) > 1
    expected = np.average([case["ao"] for case in cases], weights=weights)
    assert merged.ao == pytest.approx(expected, abs=1e-6)
    assert merged.frames == sum(len(case["boxes"]) for case in cases)


def test_the_thresholds():
    assert OVERLAP_THRESHOLDS.tolist() == [step * 0.05 for step in range(21)]
    assert CENTRE_THRESHOLDS.tolist() == list(range(51))
    assert NORMALISED_THRESHOLDS.tolist() == [step / 100 for step in range(51)]


def test_a_perfect_track():
    """No overlap is above 1, so the last threshold is always missed."""
    plain = score_boxes(TRUTH, TRUTH).to_dict()
    assert plain.pop("auc") == pytest.approx(20 / 21)
    assert plain == dict.fromkeys(["precision", "norm_precision", "ao", "sr50", "sr75"], 1) | {
        "frames": 5,
        "scored": 4,
    }


bad_rows = st.tuples(
    *[st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -5.0, 1e300, 20.0])] * 4
).filter(lambda row: not (np.isfinite(row).all() and min(row[2:]) > 0))


@given(st.lists(bad_rows, min_size=4, max_size=4), st.sampled_from(["default", "uav", "lasot"]))
def test_what_is_no_box_is_a_miss(rows, dataset):
    boxes = np.vstack([TRUTH[:1], rows])
    with np.errstate(all="raise"):
        score = score_boxes(boxes, TRUTH, dataset=dataset)
    assert score.auc == pytest.approx(20 / 21 / 5)
    assert (score.precision, score.norm_precision, score.ao) == (0.2, 0.2, 0)


def test_the_given_box_is_the_truth_whatever_the_tracker_says_of_it():
    boxes = TRUTH.copy()
    boxes[0] = np.nan
    assert score_boxes(boxes, TRUTH).to_dict() == score_boxes(TRUTH, TRUTH).to_dict()
    assert np.isnan(boxes[0]).all(), "the caller's boxes are left alone"


def test_absent_frames_cannot_be_won():
    truth = TRUTH.copy()
    truth[2] = np.nan
    score = score_boxes(TRUTH, truth)
    assert score.auc == pytest.approx(20 / 21 * 4 / 5)
    assert (score.precision, score.norm_precision) == (0.8, 1.0)
    assert (score.ao, len(score.overlaps)) == (1.0, 3)


def test_a_target_that_never_comes_back_has_no_average_overlap():
    truth = np.full((3, 4), np.nan)
    truth[0] = TRUTH[0]
    plain = score_boxes(TRUTH[:3], truth).to_dict()
    assert (plain["ao"], plain["sr50"], plain["sr75"]) == (None, None, None)
    assert plain["auc"] == pytest.approx(20 / 21 / 3)


def test_each_true_box_has_its_prediction():
    for boxes in (TRUTH[:4], TRUTH[:, :3], TRUTH[0]):
        with pytest.raises(InputError, match="boxes to score: found"):
            score_boxes(boxes, TRUTH)
    with pytest.raises(InputError, match="boxes to score"):
        score_boxes(TRUTH[:0], TRUTH[:0])
    with pytest.raises(InputError, match="scores: found none"):
        merge_scores([])


sides = st.floats(1, 500)
corners = st.floats(-200, 500)
boxes = st.lists(st.tuples(corners, corners, sides, sides), min_size=6, max_size=6).map(np.array)


@given(boxes, boxes)
def test_an_overlap_is_a_share_and_knows_no_order(first, second):
    overlaps = measure_toolkit_overlaps(first, second)
    assert ((overlaps >= 0) & (overlaps <= 1)).all()
    assert overlaps == pytest.approx(measure_toolkit_overlaps(second, first))
    assert measure_toolkit_overlaps(first, first) == pytest.approx(1)


@given(boxes, boxes)
def test_both_conventions_agree_but_for_rounding(first, second):
    """So AO of a sequence is near the area under its success curve."""
    score = score_boxes(first, second)
    auc_of_tracked = (score.auc * 6 - 20 / 21) / 5
    assert auc_of_tracked == pytest.approx(score.ao, abs=0.051)
