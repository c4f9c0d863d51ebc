"""Trackers that are no bundles, opened by a word and used like one that is."""

import math
import subprocess
import sys

import numpy as np
import pytest
from layouts import write_plain
from verbs import run_verb

from relo_edge.errors import InputError, MissingDependency
from relo_edge.geometry import box_iou, read_box
from relo_edge.host.opencv import cv2
from relo_edge.peers.registry import PEERS, open_peer
from relo_edge.peers.targets import PeerTargets
from relo_edge.synthetic.clip import make_clip

WRONG = {
    "": r"tracker: found '', expected vit=MODEL.onnx \| nano=BACKBONE",
    "siam": "found 'siam', expected",
    "vit": "tracker vit: found 0 files, expected vit=MODEL.onnx",
    "vit=a,b": "tracker vit: found 2 files",
    "nano=a": "tracker nano: found 1 files, expected nano=BACKBONE.onnx,HEAD.onnx",
    "mil=x": "tracker mil: found 1 files, expected mil",
    "vit=none.onnx": "tracker vit: found no file none.onnx",
}


@pytest.mark.parametrize(("word", "message"), WRONG.items())
def test_words_that_open_nothing(word, message):
    with pytest.raises(InputError, match=message):
        open_peer(word)


def test_a_file_that_is_no_model(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"tracker vit=.*broken.onnx does not open"):
        open_peer(f"vit={tmp_path / 'broken.onnx'}")


def test_a_tracker_that_this_opencv_lacks_is_named_with_what_brings_it(monkeypatch):
    for name in ("TrackerCSRT", "legacy"):
        monkeypatch.delattr(cv2, name, raising=False)
    with pytest.raises(MissingDependency, match="no csrt tracker in OpenCV.*contrib-python"):
        open_peer("csrt")


@pytest.mark.slow
def test_a_target_is_followed_and_another_started():
    clip = make_clip(3, 8)
    frames = list(clip.frames())
    tracker = open_peer("mil")
    for first in (0, 2):
        tracker.init(frames[first], read_box(clip.boxes[first]))
        tracks = [tracker.update(frame) for frame in frames[first + 1 :]]
        truth = [read_box(row) for row in clip.boxes[first + 1 :]]
        overlaps = [box_iou(t.box, b) for t, b in zip(tracks, truth, strict=True)]
        assert np.mean(overlaps) > 0.5
        assert all(math.isnan(track.confidence) for track in tracks)
    assert tracker.identity["tracker"] == "mil"


def test_boxes_that_cannot_be_followed():
    tracker, frame = open_peer("mil"), np.zeros((90, 120, 3), np.uint8)
    with pytest.raises(InputError, match="call init"):
        tracker.update(frame)
    with pytest.raises(InputError, match="box outside the frame"):
        tracker.init(frame, (500, 5, 20, 10))
    # OpenCV itself would never return.
    for box in ((5, 5, 0.3, 0.3), (5, 5, 40, 4), (-36, 5, 40, 40)):
        with pytest.raises(InputError, match="pixels within the frame, expected 8 or more a side"):
            tracker.init(frame, box)


def test_several_targets_have_a_tracker_each():
    opened = []

    def open_another():
        opened.append(open_peer("mil"))
        return opened[-1]

    frame = next(make_clip(3, 2).frames())
    targets = PeerTargets(open_peer("mil"), open_another)
    names = [targets.add(frame, (10.0 + 50 * n, 20, 40, 40)) for n in range(3)]
    assert len(opened) == 2
    assert list(targets.update(frame)) == names
    targets.remove(names[0])
    assert list(targets.update(frame)) == names[1:]
    with pytest.raises(InputError, match=r"target: found 0, expected one of \[1, 2\]"):
        targets.remove(names[0])


@pytest.mark.slow
def test_eval_and_its_processes(capsys, tmp_path):
    data = write_plain(tmp_path / "data", ["one", "two"])
    code, here, err = run_verb(capsys, "eval", data, "--tracker", "mil", "-o", tmp_path / "a")
    assert code == 0, err
    jobs = ["--jobs", "2", "-o", tmp_path / "b"]
    assert run_verb(capsys, "eval", data, "--tracker", "mil", *jobs)[0] == 0
    assert "data (plain): 2 sequences, 8 frames" in here


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data"], "eval's arguments: found data, expected TRACKER DATASET"),
        (["demo", "data", "--tracker", "mil"], "found demo data, expected DATASET"),
        (["data", "--tracker", "sift"], "tracker: found 'sift', expected vit="),
    ],
)
def test_eval_refuses_what_it_cannot_track_with(capsys, tmp_path, monkeypatch, words, message):
    write_plain(tmp_path / "data", ["one"])
    monkeypatch.chdir(tmp_path)
    code, _, err = run_verb(capsys, "eval", *words)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    "words",
    [
        ["--bundle", "demo"],
        ["--recover"],
        ["--heatmap", "--save", "o.mp4"],
        ["--checkpoint", "c.pth"],
        ["--runtime", "onnxruntime"],
        ["--precision", "int8"],
        ["--protocol", "got10k"],
        ["--threads", "1"],
        ["--threads", "0"],
        ["--trust-engine"],
    ],
)
def test_track_refuses_options_that_peers_do_not_have(capsys, tmp_path, words):
    data = write_plain(tmp_path / "data", ["one"])
    init = ["--init", "1,5,20,10", "--tracker", "mil"]
    code, _, err = run_verb(capsys, "track", data / "one", *init, *words)
    assert code == 2
    assert f"{words[0]} is for bundles; leave it out, or leave out --tracker" in err


@pytest.mark.parametrize(
    "words",
    [
        ["--runtime", "onnxruntime"],
        ["--precision", "int8"],
        ["--checkpoint", "c.pth"],
        ["--protocol", "got10k"],
    ],
)
@pytest.mark.parametrize("tracker", [["mil", "data"], ["data", "--tracker", "mil"]])
def test_eval_refuses_options_that_a_peer_alone_does_not_have(
    capsys, tmp_path, monkeypatch, tracker, words
):
    write_plain(tmp_path / "data", ["one"])
    monkeypatch.chdir(tmp_path)
    code, _, err = run_verb(capsys, "eval", *tracker, *words)
    assert (code, list(tmp_path.iterdir())) == (2, [tmp_path / "data"])
    assert f"{words[0]} is for bundles, which 'mil' is not; leave it out" in err


def test_every_word_says_how_it_is_used():
    assert {kind: PEERS[kind].usage.partition("=")[0] for kind in PEERS} == {k: k for k in PEERS}


EVAL = """
import sys
from relo_edge.cli import main
sys.argv = ["relo-edge", *sys.argv[1:]]
try:
    main()
except SystemExit as stopped:
    assert not stopped.code
asked = ("relo_edge.finder", "relo_edge.peers.r1track", "transformers")
print([name for name in sys.modules if name.startswith(asked)])
"""


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["eval", "track"])
def test_nothing_that_asks_a_server_is_imported_unless_asked_for(small_bundle, tmp_path, verb):
    data = write_plain(tmp_path / "data", ["one"])
    words = {
        "eval": ["eval", small_bundle.path, data, "--runtime", "onnxruntime", "-o", "out"],
        "track": ["track", data / "one", "--tracker", "mil", "--init", "1,5,20,10"],
    }
    done = subprocess.run(
        [sys.executable, "-c", EVAL, *map(str, words[verb])],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
