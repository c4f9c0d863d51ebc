"""Two results side by side: differences by sequence, and an interval that means something."""

import json

import numpy as np
import pytest
from verbs import run_verb

from relo_edge.benchmarks.accuracy.comparison import compare_results
from relo_edge.benchmarks.accuracy.results import FIGURES
from relo_edge.errors import InputError, SourceError


def write_results(folder, aucs, frames=100, scored=None):
    sequences = {
        f"s{index:02d}": {
            **dict.fromkeys(FIGURES, value),
            "frames": frames,
            "scored": scored[index] if scored else frames - 1,
        }
        for index, value in enumerate(aucs)
    }
    folder.mkdir()
    (folder / "summary.json").write_text(json.dumps({"sequences": sequences}))
    return folder


def test_differences_are_the_seconds_less_the_firsts(tmp_path):
    first = write_results(tmp_path / "a", [0.5, 0.6, 0.7])
    second = write_results(tmp_path / "b", [0.6, 0.6, 0.65])
    found = compare_results(first, second)
    auc = found.figures["auc"]
    assert (auc.first, auc.second) == pytest.approx((0.6, 0.6166667), abs=1e-6)
    assert auc.difference == pytest.approx(0.05 / 3)
    assert found.sequences["s00"]["auc"] == pytest.approx(0.1)
    assert found.sequences["s02"]["sr75"] == pytest.approx(-0.05)


def test_ao_weighs_sequences_by_their_frames(tmp_path):
    first = write_results(tmp_path / "a", [0.5, 0.5], scored=[30, 10])
    second = write_results(tmp_path / "b", [0.6, 0.5], scored=[30, 10])
    found = compare_results(first, second).figures
    assert found["ao"].difference == pytest.approx(0.075)
    assert found["auc"].difference == pytest.approx(0.05)


def test_a_verdict_needs_more_than_chance(tmp_path):
    random = np.random.default_rng(1)
    base = random.uniform(0.3, 0.7, 40)
    names = {"noise": random.normal(0, 0.02, 40), "gain": random.normal(0.03, 0.02, 40)}
    first = write_results(tmp_path / "first", base)
    noise, gain = (
        compare_results(first, write_results(tmp_path / name, base + change)).figures["auc"]
        for name, change in names.items()
    )
    assert noise.verdict == "no clear difference"
    assert noise.low < 0 < noise.high
    assert (gain.verdict, gain.low > 0) == ("better", True)
    # The interval is that of the mean: about 1.96 standard errors to both sides.
    error = np.std(names["gain"]) / np.sqrt(40)
    assert gain.high - gain.low == pytest.approx(2 * 1.96 * error, rel=0.1)
    back = compare_results(tmp_path / "gain", first).figures["auc"]
    assert (back.verdict, back.low) == ("worse", pytest.approx(-gain.high, abs=1e-3))


def test_few_sequences_have_no_interval_and_no_verdict(tmp_path):
    """Of one, every resampled dataset is the same: any difference used to be beyond chance."""
    for count in (1, 4, 5):
        first = write_results(tmp_path / f"a{count}", [0.5] * count)
        second = write_results(tmp_path / f"b{count}", [0.6] * count)
        found = compare_results(first, second)
        auc = found.figures["auc"]
        assert auc.difference == pytest.approx(0.1)
        if count == 5:
            assert (auc.verdict, auc.low) == ("better", pytest.approx(0.1))
            continue
        assert (auc.verdict, auc.low, auc.high) == ("too few sequences", None, None)
        assert "+10.00   -  too few sequences" in found.describe()
        plain = json.loads(json.dumps(found.to_dict()))["figures"]["auc"]
        assert (plain["verdict"], plain["low"]) == ("too few sequences", None)


def test_a_figure_needs_as_many_sequences_that_have_it(tmp_path):
    first = write_results(tmp_path / "a", [0.5] * 5)
    summary = json.loads((first / "summary.json").read_text())
    summary["sequences"]["s00"].update(ao=None, sr50=None, sr75=None, scored=0)
    (first / "summary.json").write_text(json.dumps(summary))
    found = compare_results(first, write_results(tmp_path / "b", [0.6] * 5)).figures
    assert (found["auc"].verdict, found["ao"].verdict) == ("better", "too few sequences")


def test_the_same_question_has_the_same_answer(tmp_path):
    first = write_results(tmp_path / "a", [0.5, 0.6, 0.7, 0.5, 0.6])
    second = write_results(tmp_path / "b", [0.6, 0.6, 0.65, 0.5, 0.6])
    assert compare_results(first, second) == compare_results(first, second)
    same = compare_results(first, first)
    assert {(d.low, d.high) for d in same.figures.values()} == {(0, 0)}
    assert "no sequence has another AUC" in same.describe()


def test_a_sequence_without_average_overlap_is_left_out_of_it(tmp_path):
    first = write_results(tmp_path / "a", [0.5, 0.6])
    summary = json.loads((first / "summary.json").read_text())
    summary["sequences"]["s00"].update(ao=None, sr50=None, sr75=None, scored=0)
    (first / "summary.json").write_text(json.dumps(summary))
    second = write_results(tmp_path / "b", [0.6, 0.7])
    found = compare_results(first, second)
    assert found.figures["ao"].first == pytest.approx(0.6)
    assert found.sequences["s00"]["ao"] is None
    assert found.sequences["s00"]["auc"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("content", "match", "error"),
    [
        ("{", "cannot be read: found damage", SourceError),
        ("[]", "cannot be read: found damage", SourceError),
        ('{"sequences": {"a": 3}}', "cannot be read: found damage", SourceError),
        ("{}", "found no sequences", SourceError),
        ('{"sequences": {"a": {"frames": 4}}}', "found no auc, .*submission has none", SourceError),
    ],
)
def test_results_that_cannot_be_compared(tmp_path, content, match, error):
    first = write_results(tmp_path / "a", [0.5])
    (tmp_path / "b").mkdir()
    with pytest.raises(InputError, match="found no summary.json, expected a folder"):
        compare_results(first, tmp_path / "b")
    (tmp_path / "b" / "summary.json").write_text(content)
    with pytest.raises(error, match=match):
        compare_results(first, tmp_path / "b")


def test_results_of_other_sequences(tmp_path):
    first = write_results(tmp_path / "a", [0.5, 0.6])
    with pytest.raises(InputError, match="s02 in one of them alone"):
        compare_results(first, write_results(tmp_path / "b", [0.5, 0.6, 0.7]))
    with pytest.raises(InputError, match="sequence s00: found 100 and 99 frames"):
        compare_results(first, write_results(tmp_path / "c", [0.5, 0.6], frames=99))


def test_the_verb(tmp_path, capsys):
    first = write_results(tmp_path / "a", [0.5, 0.6, 0.7])
    second = write_results(tmp_path / "b", [0.6, 0.6, 0.65])
    code, out, _ = run_verb(capsys, "compare", first, second, "--json")
    plain = json.loads(out)
    assert code == 0
    assert plain["figures"]["auc"]["difference"] == pytest.approx(0.05 / 3)
    assert plain["figures"]["auc"]["verdict"] == "too few sequences"
    assert plain["sequences"]["s00"]["auc"] == pytest.approx(0.1)
    code, out, _ = run_verb(capsys, "compare", first, second)
    assert "AUC         60.0    61.7   +1.67" in out
    assert "s00  +10.00" in out
    code, out, err = run_verb(capsys, "compare", first, tmp_path / "none")
    assert (code, out, err.count("\n")) == (2, "", 1)
