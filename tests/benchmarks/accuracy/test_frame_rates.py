"""`eval --every`: sequences are thinned as told, and each rate is kept by itself."""

import json
import sys

import numpy as np
import pytest
from layouts import write_got10k_test, write_plain
from verbs import run_verb

from relo_edge.benchmarks.accuracy.frame_rates import thin_dataset
from relo_edge.datasets.layouts import read_dataset


@pytest.fixture
def data(tmp_path):
    return write_plain(tmp_path / "data", ["one", "two"])


@pytest.fixture
def evaluate(capsys, small_bundle, tmp_path):
    def run(data, *words):
        words = ["--runtime", "onnxruntime", "--output", tmp_path / "out", *words]
        return run_verb(capsys, "eval", small_bundle.path, data, *words)

    return run


def test_every_second_frame_begins_with_the_first(data):
    whole = read_dataset(data)
    thin = thin_dataset(whole, 2)
    for before, after in zip(whole.sequences, thin.sequences, strict=True):
        assert after.images == before.images[::2]
        assert np.array_equal(after.boxes, before.boxes[::2])
        assert len(after.absent) == len(after.images)


@pytest.mark.slow
def test_each_rate_is_measured_and_kept_apart(data, evaluate, tmp_path):
    code, out, _ = evaluate(data, "--every", "2,3", "--json")
    assert code == 0
    told = json.loads(out)
    assert set(told["every"]) == {"2", "3"}
    assert 0 <= told["every"]["2"]["auc"] <= 1
    frames = len(read_dataset(data).sequences[0].images)
    kept = json.loads((tmp_path / "out" / "every-2" / "sequences" / "one.json").read_text())
    assert len(kept["boxes"]) == len(range(0, frames, 2))
    assert (tmp_path / "out" / "frame-rates.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = evaluate(data)
    assert code == 0
    assert "every" not in out, "the whole rate's own results are not mixed with the others"


@pytest.mark.slow
def test_the_table_has_a_line_for_each_rate(data, evaluate):
    code, out, _ = evaluate(data, "--every", "2")
    assert code == 0
    assert "every 2 frames" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("1", "--every: found 1, expected 2 or more"),
        ("two", "--every: found two, expected whole numbers"),
        ("99", "--every 99: sequence one: found"),
    ],
)
def test_rates_that_make_no_sense_are_refused_before_anything_is_tracked(
    data, evaluate, tmp_path, words, message
):
    code, _, err = evaluate(data, "--every", words)
    assert code == 2
    assert message in err
    assert not (tmp_path / "out").exists()


def test_without_the_truth_nothing_can_be_compared(tmp_path, evaluate):
    code, _, err = evaluate(write_got10k_test(tmp_path / "test"), "--every", "2")
    assert code == 2
    assert "--every: found first boxes only" in err


def test_without_matplotlib_nothing_is_tracked(data, evaluate, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = evaluate(data, "--every", "2")
    assert code == 2
    assert "--every needs matplotlib" in err
    assert not (tmp_path / "out").exists()
