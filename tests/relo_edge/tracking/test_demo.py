"""The demo: its files are real, its score is against the truth, and it owns up to its weights."""

import csv
import json
import sys

import pytest
from clips import StillRuntime, count_frames

from relo_edge import cli
from relo_edge.errors import SourceError
from relo_edge.geometry import box_iou
from relo_edge.synthetic import demo_clip
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracking import demo


@pytest.fixture
def still(monkeypatch):
    monkeypatch.setattr(demo_clip, "FRAMES", 12)
    monkeypatch.setattr(demo, "open_runtime", lambda *_: StillRuntime())


@pytest.mark.usefixtures("still")
def test_score_is_the_overlap_with_the_truth(tmp_path):
    result = demo.run_demo(tmp_path / "new" / "folder")
    assert count_frames(tmp_path / "new" / "folder" / "demo.mp4") == 12
    truth = make_clip(demo_clip.SEED, 12).boxes.tolist()
    with (tmp_path / "new" / "folder" / "demo.csv").open() as lines:
        boxes = [tuple(float(row[key]) for key in "xywh") for row in csv.DictReader(lines)]
    assert boxes[0] == tuple(truth[0])
    overlaps = [box_iou(box, true) for box, true in zip(boxes[1:], truth[1:], strict=True)]
    assert result.mean_iou == pytest.approx(sum(overlaps) / 11)
    assert 0.2 < result.mean_iou < 0.99


def test_folder_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="demo folder"):
        demo.run_demo(tmp_path / "file" / "folder")


@pytest.mark.slow
def test_demo_verb_runs_with_the_built_in_weights(tmp_path, monkeypatch, capsys):
    pytest.importorskip("safetensors")
    monkeypatch.setattr(demo_clip, "FRAMES", 6)
    monkeypatch.setattr(sys, "argv", ["relo-edge", "demo", "--output", str(tmp_path), "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    result = json.loads(capsys.readouterr().out)
    assert result["frames"] == 6
    # The built-in weights are trained: the first frames at least must hold.
    assert result["mean_iou"] > 0.5
    assert result["fps"] > 0
    assert (result["device"], result["bundle"]) == ("cpu", "demo")
    assert sorted(result["outputs"]) == [str(path) for path in sorted(tmp_path.iterdir())]
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "demo.csv",
        "demo.jpg",
        "demo.mp4",
    ]
