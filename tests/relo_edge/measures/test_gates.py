"""Errors, overlaps and gates that parity and calibration share."""

import numpy as np
import pytest
from clips import StillRuntime, draw_frame
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.measures.closed_loop import follow_target, measure_overlaps_or_nan, perturb_start
from relo_edge.measures.gates import GATES, StartSensitivity, judge_outputs, judge_track
from relo_edge.measures.tensor_errors import ErrorTally, OutputError

NAN = float("nan")
STEADY = StartSensitivity(1.0)


def tally(*pairs):
    found = ErrorTally()
    for want, got in pairs:
        found.add(np.array(want, np.float32), np.array(got, np.float32))
    return found.sum_up()


def test_errors_are_of_all_samples_together():
    error = tally(([3.0, 4.0], [3.0, 4.0]), ([8.0, 0.0], [6.0, 0.0]))
    assert error.max_abs == 2
    assert error.relative == pytest.approx(0.25)
    assert error.cosine == pytest.approx((25 + 48) / np.sqrt((25 + 64) * (25 + 36)))


def test_merged_tallies_are_those_of_all_samples():
    samples = np.random.default_rng(0).normal(size=(6, 2, 5))
    parts = [ErrorTally(), ErrorTally()]
    for index, (want, got) in enumerate(samples):
        parts[index % 2].add(want, got)
    whole = tally(*samples.astype(np.float32))
    merged = parts[0].merge(parts[1]).sum_up()
    assert merged.max_abs == pytest.approx(whole.max_abs)
    assert merged.relative == pytest.approx(whole.relative)
    assert merged.cosine == pytest.approx(whole.cosine)


@given(st.integers(0, 99), st.floats(0.1, 10))
def test_a_factor_keeps_the_cosine_and_shows_in_the_error(seed, factor):
    values = np.random.default_rng(seed).normal(size=20)
    error = tally((values, values * factor))
    assert error.cosine == pytest.approx(1, abs=1e-6)
    assert error.relative == pytest.approx(abs(factor - 1), abs=1e-4)


def test_nan_in_one_sample_is_not_lost():
    error = tally(([1.0], [1.0]), ([1.0], [NAN]), ([1.0], [1.0]))
    assert np.isnan([error.max_abs, error.relative, error.cosine]).all()
    assert judge_outputs(GATES["int8"], {"box": error})


def test_nothing_against_nothing_is_the_same():
    assert tally(([0.0], [0.0])).cosine == 1
    assert tally(([0.0], [1.0])).cosine == 0


def test_each_output_is_judged_on_its_own():
    good, bad = OutputError(0, 0, 1), OutputError(9, 0.9, 0.2)
    assert judge_outputs(GATES["fp32"], {"a": good}) == []
    failures = judge_outputs(GATES["int8"], {"a": good, "b": bad})
    assert failures == ["b cosine 0.2000 < 0.99", "b error 9.0e-01 > 5e-01"]


def test_cells_and_track():
    assert judge_track(GATES["fp32"], 1, 1, STEADY) == []
    assert len(judge_track(GATES["fp32"], 0.5, 0.5, STEADY)) == 2
    assert len(judge_track(GATES["int8"], NAN, NAN, StartSensitivity(NAN))) == 2


def test_a_lower_precision_need_not_be_steadier_than_the_reference():
    sensitive = StartSensitivity(0.91, 0.05)
    assert judge_track(GATES["fp16"], 1, 0.90, sensitive, auc_loss=0.07) == []
    assert judge_track(GATES["fp16"], 1, 0.90, STEADY) == ["closed-loop IoU 0.900 < 0.980"]
    assert judge_track(GATES["fp32"], 1, 0.98, sensitive) == ["closed-loop IoU 0.980 < 0.990"]
    failures = judge_track(GATES["fp16"], 1, 0.90, sensitive, auc_loss=0.09)
    assert failures == ["AUC 0.090 below float32's > 0.080"]


def test_a_perturbed_start_grows_with_the_target():
    right, down = perturb_start((10.0, 20.0, 40.0, 90.0))
    assert right == pytest.approx((11.2, 20, 40, 90))
    assert down == pytest.approx((10, 21.2, 40, 90))


def test_gates_loosen_with_the_precision():
    order = [GATES[name] for name in ("fp32", "fp16", "bf16")]
    for field in ("relative", "box"):
        assert sorted(getattr(gate, field) for gate in order) == [
            getattr(gate, field) for gate in order
        ]


def test_overlaps_leave_out_absent_targets():
    first = np.array([[0, 0, 10, 10], [0, 0, 10, 10.0]])
    second = np.array([[5, 0, 10, 10], [NAN] * 4])
    overlaps = measure_overlaps_or_nan(first, second)
    assert overlaps[0] == pytest.approx(1 / 3)
    assert np.isnan(overlaps[1])


def test_following_gives_a_box_for_every_frame_but_the_first():
    calls = []
    frames = (draw_frame(index) for index in range(4))
    boxes = follow_target(StillRuntime(), frames, (20, 20, 20, 20), lambda: calls.append(1))
    assert boxes.shape == (3, 4)
    assert len(calls) == 3
    assert follow_target(StillRuntime(), iter([draw_frame(0)]), (9, 9, 20, 20), None).shape == (
        0,
        4,
    )
