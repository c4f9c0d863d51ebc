"""`eval` on tiny datasets with a real bundle: figures, what is kept, and how it goes on."""

import json
import signal
import zipfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from clips import StillRuntime
from layouts import (
    list_boxes,
    write_boxes,
    write_frames,
    write_got10k,
    write_got10k_test,
    write_lasot,
    write_otb,
    write_plain,
)
from verbs import run_verb

from relo_edge.benchmarks.accuracy.evaluation import EvalRequest, _name_dataset, evaluate_dataset
from relo_edge.datasets.layouts import read_dataset
from relo_edge.measures.accuracy import score_boxes
from relo_edge.spec import VARIANTS

BARE = ["--runtime", "onnxruntime"]


@pytest.fixture
def data(tmp_path):
    return write_plain(tmp_path / "data", ["one", "three", "two"])


@pytest.fixture
def evaluate(capsys, small_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(data, *words, output="out"):
        words = [*BARE, "--output", tmp_path / output, *words]
        return run_verb(capsys, "eval", small_bundle.path, data, *words)

    return run


def read_boxes(tmp_path, name, output="out"):
    file = tmp_path / output / "sequences" / f"{name}.json"
    return np.array(json.loads(file.read_text())["boxes"])


@contextmanager
def press_ctrl_c_after(frames):
    """What stands in for the progress bar counts frames and interrupts, as a user would."""
    counted = []

    @contextmanager
    def count(*_, **__):
        def advance():
            counted.append(1)
            if len(counted) == frames:
                signal.raise_signal(signal.SIGINT)

        yield advance

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("relo_edge.benchmarks.accuracy.evaluation.show_progress", count)
        yield counted


def test_figures_are_those_of_the_boxes_that_are_kept(evaluate, data, tmp_path):
    code, out, _ = evaluate(data, "--json")
    plain = json.loads(out)
    assert code == 0
    figures = ["auc", "precision", "norm_precision", "ao", "sr50", "sr75", "fps"]
    assert list(plain)[:9] == ["dataset", *figures, "sequences"]
    assert (plain["dataset"], list(plain["sequences"])) == ("plain", ["one", "three", "two"])
    truth = np.array(list_boxes(4), float)
    scores = {n: score_boxes(read_boxes(tmp_path, n), truth) for n in plain["sequences"]}
    assert {n: s.to_dict() for n, s in scores.items()} == plain["sequences"]
    assert plain["auc"] == pytest.approx(np.mean([s.auc for s in scores.values()]))
    assert 0 <= plain["ao"] <= 1
    assert plain["fps"] > 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert {key: summary[key] for key in plain} == plain
    curves = summary["curves"]
    assert [len(curves[n]) for n in ("success", "precision", "norm_precision")] == [21, 51, 51]
    assert [len(t) for t in curves["thresholds"].values()] == [21, 51, 51]
    assert np.mean(curves["success"]) == pytest.approx(plain["auc"])
    assert summary["run"]["runtime"] == "onnxruntime"


def test_the_table(evaluate, data):
    code, out, err = evaluate(data)
    assert code == 0
    assert "data (plain): 3 sequences, 12 frames" in out
    assert "AUC       P  P_norm      AO    SR50    SR75" in out
    assert "eval: 12 frames" in err


@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_ends_with_the_same_numbers(evaluate, data, tmp_path):
    whole = json.loads(evaluate(data, "--json", output="whole")[1])
    with press_ctrl_c_after(6):
        code, out, err = evaluate(data)
    assert (code, out) == (130, "")
    assert "1 of 3 sequences are kept; go on with the same command" in err
    assert not (tmp_path / "out" / "summary.json").exists()
    with press_ctrl_c_after(99) as counted:
        code, out, err = evaluate(data, "--json")
    assert (code, len(counted)) == (0, 8)
    assert "1 of 3 sequences are done already" in err
    resumed = json.loads(out)
    for plain in (whole, resumed):
        del plain["fps"], plain["results"]
    assert resumed == whole
    code, _, err = evaluate(data)
    assert (code, "eval: already there" in err) == (0, True), "nothing is tracked twice"


@pytest.mark.slow
def test_jobs_give_the_same_numbers(evaluate, data, tmp_path):
    evaluate(data)
    assert evaluate(data, "--jobs", 2, output="jobs")[0] == 0
    for name in ("one", "two", "three"):
        assert (read_boxes(tmp_path, name) == read_boxes(tmp_path, name, "jobs")).all()


@pytest.mark.slow
def test_interrupted_jobs_keep_what_is_done(evaluate, data):
    with press_ctrl_c_after(4):
        code, out, err = evaluate(data, "--jobs", 2)
    assert (code, out) == (130, "")
    assert " of 3 sequences are kept" in err
    assert evaluate(data, "--jobs", 2)[0] == 0


def test_a_damaged_result_is_made_again(evaluate, data, tmp_path):
    first = json.loads(evaluate(data, "--json")[1])
    file = tmp_path / "out" / "sequences" / "two.json"
    file.write_text(file.read_text().replace("[[1.0,", "[[2.0,"))
    with press_ctrl_c_after(99) as counted:
        _, out, err = evaluate(data, "--json")
    assert "two: tracked again, its result is damaged" in err
    assert len(counted) == 4
    assert json.loads(out)["sequences"] == first["sequences"]


@pytest.mark.slow
def test_other_settings_are_another_run(evaluate, data):
    evaluate(data)
    _, _, err = evaluate(data, "--runtime", "openvino", "--precision", "fp32")
    assert "one: tracked again, its result is of another runtime" in err


def test_boxes_that_count_from_1(evaluate, data, tmp_path):
    evaluate(data, "--one-based")
    assert read_boxes(tmp_path, "one")[0].tolist() == [0, 4, 20, 10]


def test_got10k_scores_what_is_shown(evaluate, tmp_path):
    data = write_got10k(tmp_path / "data", cover=(8, 0, 0, 8))
    plain = json.loads(evaluate(data, "--json")[1])
    (figures,) = plain["sequences"].values()
    assert (figures["frames"], figures["scored"]) == (4, 1)


def test_got10k_looks_inside_the_picture(evaluate, tmp_path):
    data = write_got10k(tmp_path / "data", cover=(8, 8, 8, 8))
    truth = [[x + 50, 5, 20, 10] for x in range(4)]
    write_boxes(data / "GOT-10k_Val_000001" / "groundtruth.txt", truth)
    plain = json.loads(evaluate(data, "--json")[1])
    boxes = read_boxes(tmp_path, "GOT-10k_Val_000001")
    inside, whole = (
        score_boxes(boxes, np.array(truth, float), dataset="got10k", picture=picture)
        for picture in ((64, 48), None)
    )
    assert plain["ao"] == pytest.approx(inside.ao)
    assert inside.ao != pytest.approx(whole.ao)


@pytest.mark.parametrize(("asked", "factor"), [(None, 2.2), ("got10k", 3.2)])
def test_the_settings_are_the_datasets_own(monkeypatch, small_bundle, tmp_path, asked, factor):
    runtime = StillRuntime()
    runtime.variant = VARIANTS["t256"]
    monkeypatch.setattr(
        "relo_edge.benchmarks.accuracy.evaluation.open_runtime", lambda *_, **__: runtime
    )
    dataset = read_dataset(write_lasot(tmp_path / "data"))
    evaluate_dataset(EvalRequest(small_bundle, settings=asked, output=tmp_path / "out"), dataset)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["run"]["settings"]["window_factor"] == factor
    assert runtime.closed


def test_got10k_test_makes_a_submission(evaluate, tmp_path):
    data = write_got10k_test(tmp_path / "data")
    code, out, _ = evaluate(data, "--json")
    plain = json.loads(out)
    assert (code, plain["auc"], plain["ao"]) == (0, None, None)
    assert plain["sequences"] == {"GOT-10k_Test_000001": {"frames": 4}}
    with zipfile.ZipFile(plain["submission"]) as archive:
        text = archive.read("GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt").decode()
    boxes = np.loadtxt(text.splitlines(), delimiter=",")
    assert boxes == pytest.approx(read_boxes(tmp_path, "GOT-10k_Test_000001"), abs=5.1e-4)
    assert "the truth is withheld; to submit:" in evaluate(data)[1]


def test_a_layout_by_name(evaluate, tmp_path):
    data = write_otb(tmp_path / "data")
    assert "data (otb): 1 sequence," in evaluate(data)[1]
    code, out, err = evaluate(data, "--layout", "plain")
    assert (code, err.count("done already")) == (0, 1), "the same images, the same boxes"
    assert "data (plain): 1 sequence," in out


def test_results_have_their_own_folder(capsys, evaluate, small_bundle, data, tmp_path):
    code, out, _ = run_verb(capsys, "eval", small_bundle.path, "data", *BARE)
    folder = f"eval_out/data-{small_bundle.path.name}-onnxruntime-fp32"
    assert (code, out.splitlines()[-1]) == (0, f"results in {folder}")
    assert (tmp_path / folder / "summary.json").is_file()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("LaSOT", "LaSOT"),
        ("GOT-10k/val", "GOT-10k-val"),
        ("x/y/a/val/", "a-val"),
        ("/LaSOT", "LaSOT"),
        ("../val", "tmp-val"),
        (".", "tmp-here"),
    ],
)
def test_a_dataset_is_called_as_it_was_asked_for(tmp_path, monkeypatch, asked, name):
    (tmp_path / "tmp" / "here").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "tmp" / "here")
    assert _name_dataset(Path(asked)) == name


def test_datasets_of_one_name_do_not_meet(capsys, small_bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = set()
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        write_plain(tmp_path / place / "val", ["one"])
        words = [small_bundle.path, f"{place}/val", *BARE, "--json"]
        folders.add(json.loads(run_verb(capsys, "eval", *words)[1])["results"])
    assert len(folders) == 2


def test_a_folder_with_another_datasets_results_is_refused(evaluate, data, tmp_path):
    evaluate(data)
    before = {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.json")}
    other = write_plain(tmp_path / "other", ["four", "one"])
    write_frames(other / "one" / "frames", [1], size=(80, 60))
    code, out, err = evaluate(other)
    assert (code, out) == (2, "")
    assert "results " in err
    assert "found those of another dataset" in err
    assert "(one, three, two)" in err
    assert "--output" in err
    assert {file: file.read_bytes() for file in (tmp_path / "out").rglob("*.json")} == before
    moved = data.rename(tmp_path / "moved")
    assert "3 of 3 sequences are done already" in evaluate(moved)[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--jobs", "0"], "jobs: found 0, expected 1 or more"),
        (["--layout", "coco"], "layout: found coco, expected got10k | trackingnet"),
        (["--protocol", "coco"], "protocol: found coco, expected default | lasot"),
        (["--precision", "int3"], "found int3"),
    ],
)
def test_a_wrong_word(evaluate, data, tmp_path, words, said):
    code, out, err = evaluate(data, *words)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_broken_image_keeps_what_was_done_before(evaluate, data, tmp_path):
    (data / "three" / "frames" / "0002.jpg").write_bytes(b"no picture")
    code, out, err = evaluate(data)
    assert (code, out) == (1, "")
    assert "0002.jpg' cannot be read" in err.splitlines()[-1]
    assert read_boxes(tmp_path, "one").shape == (4, 4)


def test_frames_without_target_are_misses(evaluate, data, tmp_path):
    write_boxes(data / "two" / "groundtruth.txt", [[1, 5, 20, 10], *[[0, 0, 0, 0]] * 3])
    plain = json.loads(evaluate(data, "--json")[1])
    assert plain["sequences"]["two"]["ao"] is None
    assert plain["sequences"]["two"]["auc"] == pytest.approx(20 / 21 / 4)
    assert "-" in evaluate(data)[1]
