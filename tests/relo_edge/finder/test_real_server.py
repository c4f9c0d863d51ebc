"""The whole way to a real server: `transformers serve` with a tiny Qwen2.5-VL made here.

Its one answer is set, so this proves the wire, the picture and the answer's way back, and nothing
about how well a model finds.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

import numpy as np
import pytest
from verbs import run_verb

from relo_edge.finder.address import parse_address
from relo_edge.finder.chat import ChatClient
from relo_edge.host.opencv import cv2
from relo_edge.peers.r1track import R1Track
from relo_edge.synthetic.clip import make_clip

pytestmark = pytest.mark.slow

ANSWER = "[112, 63, 168, 189]"
SIZE = (336, 252)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of the server, with its model named; it ends with the tests."""
    for package in ("transformers", "torchvision", "fastapi", "uvicorn"):
        pytest.importorskip(package)
    from tiny_models import write_qwen

    folder = tmp_path_factory.mktemp("served")
    write_qwen(folder / "qwen2.5-vl-tiny", ANSWER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = "from transformers.cli.transformers import main; main()"
    words = [str(folder / "qwen2.5-vl-tiny"), "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "serve", *words, "--device", "cpu"],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, folder / "log")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def wait_for(url, process, log):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2):
            return
        assert process.poll() is None, log.read_text()
        time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture
def clip(tmp_path):
    for number, frame in enumerate(make_clip(3, 5, SIZE).frames()):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame)
    return tmp_path


def test_track_find_runs_whole(server, capsys, small_bundle, clip, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    words = ["track", clip, "--bundle", small_bundle.path, "--runtime", "onnxruntime", "--boxes"]
    finding = ["--find", "car=the red car", "--finder", server, "--finder-units", "pixels"]
    code, _, err = run_verb(capsys, *words, out / "found.csv", *finding)
    assert code == 0, err
    assert run_verb(capsys, *words, out / "given.csv", "--init", "car=112,63,56,126")[0] == 0
    assert (out / "found.csv").read_text() == (out / "given.csv").read_text()


def test_r1track_follows_the_answer(server):
    tracker = R1Track(ChatClient(parse_address(server), 60.0))
    frame = np.zeros((400, 400, 3), np.uint8)
    tracker.init(frame, (150, 150, 84, 84))
    track = tracker.update(frame)
    # The crop is the frame's 336x336 around the box, so its pixels are the frame's own.
    assert track.box == (24 + 112, 24 + 63, 56, 126)
    assert not track.lost
    assert tracker.identity["model"].endswith("qwen2.5-vl-tiny")


def test_a_model_that_is_not_there(server, capsys, small_bundle, clip):
    words = ["--bundle", small_bundle.path, "--runtime", "onnxruntime", "--find", "car"]
    finder = ["--finder", f"{server}#nobody/has-this", "--finder-units", "pixels"]
    code, _, err = run_verb(capsys, "track", clip, *words, *finder)
    assert (code, "Traceback" in err) == (1, False)
    assert "relo-edge: --find 'car': http://127.0.0.1" in err.splitlines()[-1]
