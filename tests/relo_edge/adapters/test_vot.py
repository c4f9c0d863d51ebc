"""The real VOT toolkit starts the TraX server as it starts any tracker, on a small workspace."""

import subprocess
import sys

import numpy as np
import pytest

from relo_edge import Tracker, open_runtime
from relo_edge.host.opencv import cv2
from relo_edge.synthetic.clip import make_clip

STACK = """\
title: Two clips
experiments:
  baseline:
    type: unsupervised
    repetitions: 1
"""
SEEDS = (5, 6)
FRAMES = 12


@pytest.fixture(scope="module", autouse=True)
def region_io():
    """Its import takes half a second: no price of every worker's collection."""
    pytest.importorskip("trax")
    return pytest.importorskip("vot.region.io")


@pytest.fixture
def workspace(tmp_path):
    for seed in SEEDS:
        folder = tmp_path / "sequences" / f"clip{seed}"
        (folder / "color").mkdir(parents=True)
        clip = make_clip(seed, FRAMES, (320, 240))
        for number, frame in enumerate(clip.frames(), 1):
            _, content = cv2.imencode(".png", frame)
            (folder / "color" / f"{number:08d}.jpg").write_bytes(content.tobytes())
        np.savetxt(folder / "groundtruth.txt", clip.boxes, "%.4f", delimiter=",")
        (folder / "sequence").write_text("channels.color=color/%08d.jpg\nfps=30\nformat=default\n")
    (tmp_path / "sequences" / "list.txt").write_text("".join(f"clip{s}\n" for s in SEEDS))
    (tmp_path / "stack.yaml").write_text(STACK)
    (tmp_path / "config.yaml").write_text("stack: ./stack.yaml\nregistry: [./trackers.ini]\n")
    return tmp_path


# The toolkit asks the network for a newer version of itself; a test has none.
VOT = "import vot.utilities.cli as c; c.check_updates = lambda: (False, None); c.main()"


def run_toolkit(workspace, command):
    """`vot evaluate relo`, as the challenge says."""
    (workspace / "trackers.ini").write_text(
        f"[relo]\nlabel = relo-edge\nprotocol = trax\ncommand = {command}\n"
    )
    words = ["-c", VOT, "evaluate", "--workspace", workspace, "relo"]
    done = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=300
    )
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_toolkit_gets_the_trackers_rectangles(region_io, workspace):
    serve = f"{sys.executable} -m relo_edge.adapters.vot demo --runtime onnxruntime"
    said = run_toolkit(workspace, serve)
    assert "concluded" in said, said
    for seed in SEEDS:
        folder = workspace / "results" / "relo" / "baseline" / f"clip{seed}"
        _, *regions = region_io.read_trajectory(str(folder / f"clip{seed}_001.bin"))
        found = np.array([[r.x, r.y, r.width, r.height] for r in regions])
        clip = make_clip(seed, FRAMES, (320, 240))
        start = tuple(float(f"{value:.4f}") for value in clip.boxes[0])
        with open_runtime("demo", "onnxruntime") as runtime:
            tracker = Tracker(runtime, color="bgr")
            first, *others = clip.frames()
            tracker.init(first, start)
            expected = np.array([tracker.update(frame).box for frame in others])
        # TraX sends four decimals.
        assert np.abs(found - expected).max() < 0.01


@pytest.mark.slow
def test_started_by_hand_it_says_who_starts_it():
    words = ["-m", "relo_edge.adapters.vot", "demo", "--runtime", "onnxruntime"]
    done = subprocess.run(
        [sys.executable, *words], input="", capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert "nothing speaks TraX here" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_bundle_that_is_not_there_is_told_in_one_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "relo_edge.adapters.vot", tmp_path / "none"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("relo-edge: ")
    assert len(done.stderr.splitlines()) == 1
