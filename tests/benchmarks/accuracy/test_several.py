"""`eval` of several trackers in one command: one table, one page, a folder for each."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from layouts import write_got10k_test, write_plain
from verbs import run_verb

from relo_edge.errors import InputError, MissingDependency
from relo_edge.peers import registry
from relo_edge.peers.peer import PeerKind, unscored
from relo_edge.peers.registry import open_peer
from relo_edge.pipeline import evaluate_several

FIGURES = ["auc", "precision", "norm_precision", "ao", "sr50", "sr75", "fps"]
PEER_FILES = os.environ.get("RELO_EDGE_PEER_FILES")
"""A folder with the model zoo's files, where a machine has them."""


@pytest.fixture
def several(capsys, tmp_path, monkeypatch):
    """`eval` in a folder with two tiny sequences in `data`."""
    write_plain(tmp_path / "data", ["one", "two"])
    monkeypatch.chdir(tmp_path)

    def run(*words, options=("--runtime", "onnxruntime")):
        return run_verb(capsys, "eval", *words, *options)

    return run


class StillPeer:
    """Keeps its first box: a tracker whose figures are known."""

    name, precision, device = "still", "fp32", "cpu"

    def __init__(self, kept: str) -> None:
        self.identity = {"tracker": "still", "kept": kept}

    def init(self, frame, box):
        self._box = box

    def update(self, frame):
        return unscored(self._box, lost=False)


@pytest.fixture
def still(monkeypatch):
    monkeypatch.setitem(registry.PEERS, "still", PeerKind("still=X", StillPeer))


@pytest.mark.slow
def test_one_table_and_a_folder_for_each(several, small_bundle, tmp_path):
    code, out, err = several(small_bundle.path, "mil", "data")
    assert code == 0, err
    lines = out.splitlines()
    name = f"{small_bundle.path.name}-onnxruntime-fp32"
    assert lines[0] == "data (plain): 2 sequences, 8 frames"
    assert lines[1].split() == ["AUC", "P", "P_norm", "AO", "SR50", "SR75", "FPS"]
    assert [line.split()[0] for line in lines[2:4]] == [name, "opencv-mil"]
    assert all(len(line.split()) == 8 for line in lines[2:4])
    folders = [f"eval_out/data-{one}" for one in (name, "opencv-mil")]
    assert lines[4:] == [f"results in {folder}" for folder in folders]
    assert all((tmp_path / folder / "summary.json").is_file() for folder in folders)
    assert f"tracker 1 of 2: {small_bundle.path.name}" in err


@pytest.mark.slow
def test_each_says_what_it_says_alone(several, small_bundle):
    runs = [
        several(small_bundle.path, "data", "--json"),
        several("mil", "data", "--json", options=()),
    ]
    alone = [json.loads(out) for _, out, _ in runs]
    code, out, err = several(small_bundle.path, "mil", "data", "--json")
    plain = json.loads(out)
    assert (code, list(plain), plain["dataset"]) == (0, ["dataset", "trackers"], "plain")
    names = [one.pop("tracker") for one in plain["trackers"]]
    assert names == [f"{small_bundle.path.name}-onnxruntime-fp32", "opencv-mil"]
    assert plain["trackers"] == alone
    assert list(alone[0])[1:8] == FIGURES
    assert err.count("2 of 2 sequences are done already") == 2, "nothing is tracked twice"


@pytest.mark.slow
def test_the_demo_is_called_as_it_was_asked_for(several):
    names = [
        one["tracker"]
        for one in json.loads(several("demo", "mil", "data", "--json")[1])["trackers"]
    ]
    assert names == ["demo-onnxruntime-fp32", "opencv-mil"]
    assert (
        json.loads(several("demo", "data", "--json")[1])["results"] == f"eval_out/data-{names[0]}"
    )


def test_a_word_alone_is_a_tracker(several):
    by_option = json.loads(several("data", "--tracker", "mil", "--json", options=())[1])
    code, out, err = several("mil", "data", "--json", options=())
    assert (code, json.loads(out)) == (0, by_option)
    assert "done already" in err


@pytest.mark.slow
def test_the_page_has_table_and_plots_of_all(several, small_bundle, tmp_path):
    code, out, _ = several(small_bundle.path, "mil", "data", "--html", "table.html", "--json")
    assert code == 0
    page = (tmp_path / "table.html").read_text()
    assert "2 evaluations on data (plain)" in page
    for one in json.loads(out)["trackers"]:
        cells = [
            f"data (plain), {one['tracker']}",
            *(f"{100 * one[key]:.1f}" for key in FIGURES[:6]),
        ]
        row = "".join(f"<td>{cell}</td>" for cell in [*cells, f"{one['fps']:.1f}", 2])
        assert row in page
        # A line in each of the two plots.
        assert page.count(f"<title>data (plain), {one['tracker']}</title></polyline>") == 2
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    code, _, _ = several("mil", "data", "--html", "one.html", options=())
    assert (code, "data (plain), opencv-mil" in (tmp_path / "one.html").read_text()) == (0, True)


@pytest.mark.usefixtures("still")
def test_one_name_twice_is_two_trackers(several, tmp_path):
    code, out, _ = several("still=a", "still=b", "data", "--json", "-o", "out")
    trackers = json.loads(out)["trackers"]
    assert (code, [one["tracker"] for one in trackers]) == (0, ["still", "still-2"])
    assert [one["results"] for one in trackers] == ["out/still", "out/still-2"]
    # Truth moves a pixel a frame, and the box stays: overlaps of 19/21, 18/22, 17/23.
    assert (
        trackers[0]["ao"]
        == trackers[1]["ao"]
        == pytest.approx(np.mean([19 / 21, 18 / 22, 17 / 23]))
    )
    _, _, err = several("still=b", "data", "-o", "out/still-2", options=())
    assert err.count("done already") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("still")
def test_lower_frame_rates_have_lines_of_their_own(several, tmp_path):
    code, out, _ = several("still=a", "still=b", "data", "--every", "2")
    assert code == 0
    rows = [line.split()[0] for line in out.splitlines()[2:6]]
    assert rows == ["still", "every", "still-2", "every"]
    assert (tmp_path / "eval_out" / "data-still-2" / "every-2" / "summary.json").is_file()


@pytest.mark.usefixtures("still")
def test_a_withheld_truth_has_submissions(several, tmp_path):
    write_got10k_test(tmp_path / "test")
    code, out, _ = several("still=a", "still=b", "test", "--html", "t.html")
    assert code == 0
    assert out.splitlines()[2].split()[1:7] == ["-"] * 6
    assert out.count("the truth is withheld; to submit: ") == 2
    assert "overlap threshold" not in (tmp_path / "t.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["siam", "mil", "data"], "tracker: found 'siam', expected a bundle folder | demo | vit="),
        (["mil", "siam=a,b", "data"], "tracker: found 'siam=a,b', expected a bundle folder"),
        (["mil", "nano=a", "data"], "tracker nano: found 1 files"),
        (["mil", "mil", "data"], "the same tracker twice: found mil; leave one out"),
        (["demo", "mil", "nodata"], "dataset 'nodata': found no such folder"),
        (["mil", "still=a", "data", "--html", "x.pdf"], "found .pdf, expected .html"),
        (
            ["mil", "still=a", "data", "--html", "none/x.html"],
            "output folder 'none': found no such folder",
        ),
        (["a", "b", "data", "--tracker", "mil"], "found a b data, expected DATASET"),
    ],
)
@pytest.mark.usefixtures("still")
def test_what_cannot_be_is_one_line_before_anything_runs(several, tmp_path, words, said):
    code, out, err = several(*words)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert "eval: " not in err
    assert not (tmp_path / "eval_out").exists()


def test_one_bundle_twice_and_a_checkpoint_for_two(several, small_bundle, tmp_path):
    (tmp_path / "link").symlink_to(small_bundle.path)
    code, _, err = several(small_bundle.path, "link", "data")
    assert (code, "the same tracker twice: found" in err) == (2, True)
    code, _, err = several(small_bundle.path, "link", "data", "--checkpoint", "c.pth")
    assert (code, "--checkpoint is for one bundle; leave it out" in err) == (2, True)


def test_no_tracker_is_refused():
    with pytest.raises(InputError, match="trackers: found none"):
        evaluate_several([], "data")


@pytest.mark.parametrize("word", ["csrt", "kcf"])
def test_trackers_of_opencvs_contrib(several, word):
    try:
        open_peer(word)
    except MissingDependency as error:
        # What is missing is said before the other tracker starts.
        code, _, err = several("mil", word, "data")
        assert (code, err.splitlines()[-1]) == (1, f"relo-edge: {error}")
        assert "eval: " not in err
    else:
        assert several("mil", word, "data")[0] == 0


@pytest.mark.skipif(PEER_FILES is None, reason="RELO_EDGE_PEER_FILES names no folder")
def test_the_model_zoos_files(several, small_bundle):
    folder = Path(PEER_FILES)
    nano = f"nano={folder / 'nanotrack_v2_backbone.onnx'},{folder / 'nanotrack_v2_head.onnx'}"
    words = [small_bundle.path, nano, f"vit={folder / 'vittrack.onnx'}", "data", "--json"]
    code, out, err = several(*words)
    assert code == 0, err
    names = [one["tracker"] for one in json.loads(out)["trackers"]]
    assert names[1:] == ["opencv-nano", "opencv-vit"]
