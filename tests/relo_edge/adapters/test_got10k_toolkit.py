"""The real GOT-10k toolkit runs the tracker on a small OTB, and reports what `eval` does."""

import numpy as np
import pytest

from relo_edge import open_runtime
from relo_edge.adapters import Got10kTracker
from relo_edge.errors import InputError
from relo_edge.host.opencv import cv2
from relo_edge.pipeline import evaluate
from relo_edge.synthetic.clip import make_clip

NAMES = ("Basketball", "Bolt")
FRAMES = 25


@pytest.fixture(scope="module")
def experiments():
    """Its import takes seconds: no price of every worker's collection."""
    return pytest.importorskip("got10k.experiments")


@pytest.fixture
def otb(tmp_path):
    """Two sequences by the names of OTB; the pictures are lossless under the names it has."""
    for seed, name in enumerate(NAMES, 5):
        folder = tmp_path / "otb" / name / "img"
        folder.mkdir(parents=True)
        clip = make_clip(seed, FRAMES, (320, 240))
        for number, frame in enumerate(clip.frames(), 1):
            # Both read a picture by its content: no decoder of JPEG stands between the two.
            _, content = cv2.imencode(".png", frame)
            (folder / f"{number:04d}.jpg").write_bytes(content.tobytes())
        np.savetxt(folder.parent / "groundtruth_rect.txt", clip.boxes, "%.3f", delimiter=",")
    return tmp_path / "otb"


@pytest.fixture
def toolkit_root(experiments, otb, tmp_path):
    """The same for the toolkit, which downloads whatever sequence has no folder."""
    root = tmp_path / "toolkit"
    for name in experiments.ExperimentOTB.__init__.__globals__["OTB"]._OTB__otb13_seqs:
        (root / name).mkdir(parents=True)
    for name in NAMES:
        (root / name).rmdir()
        (root / name).symlink_to(otb / name)
    return root


@pytest.mark.slow
def test_the_toolkits_report_equals_eval(experiments, otb, toolkit_root, tmp_path):
    experiment = experiments.ExperimentOTB(
        str(toolkit_root), 2013, str(tmp_path / "results"), str(tmp_path / "reports")
    )
    with open_runtime("demo", "onnxruntime") as runtime:
        experiment.run(Got10kTracker(runtime))
    reported = experiment.report(["relo-edge"])["relo-edge"]
    evaluated = evaluate(
        "demo", otb, runtime="onnxruntime", layout="otb", output=tmp_path / "eval"
    ).to_dict()
    assert evaluated["auc"] == pytest.approx(reported["overall"]["success_score"], abs=1e-12)
    assert evaluated["precision"] == pytest.approx(
        reported["overall"]["precision_score"], abs=1e-12
    )
    for name in NAMES:
        ours, theirs = evaluated["sequences"][name], reported["seq_wise"][name]
        assert ours["auc"] == pytest.approx(theirs["success_score"], abs=1e-12)
        boxes = np.loadtxt(tmp_path / "results/OTB2013/relo-edge" / f"{name}.txt", delimiter=",")
        assert len(boxes) == FRAMES
    assert 0.2 < evaluated["auc"] < 1


def test_it_is_the_toolkits_tracker():
    trackers = pytest.importorskip("got10k.trackers")
    with open_runtime("demo", "onnxruntime") as runtime:
        tracker = Got10kTracker(runtime, "small")
        assert isinstance(tracker, trackers.Tracker)
        assert (tracker.name, tracker.is_deterministic) == ("small", True)
        with pytest.raises(InputError, match="no target"):
            tracker.update(np.zeros((20, 20, 3), np.uint8))
