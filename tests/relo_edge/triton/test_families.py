"""A family unlike RELO on a server: whole frames, a target told by place, two states, no score."""

import numpy as np
import pytest
from toy_family import write_toy
from triton_server import KINDS, start_server

from relo_edge import Tracker, open_runtime
from relo_edge.families.registry import FAMILIES
from relo_edge.triton import TritonTracker


@pytest.fixture
def toy_bundle(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "toy", "toy_family")
    return write_toy(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_toy_is_followed_there_as_here(kind, toy_bundle, tmp_path):
    random = np.random.default_rng(3)
    frames = random.integers(0, 256, (8, 60, 80, 3), np.uint8)
    box = (20.0, 10.0, 30.0, 25.0)
    server = start_server(kind, toy_bundle, tmp_path / "server")
    try:
        with (
            TritonTracker(server.url, "toy", color="rgb") as there,
            open_runtime(toy_bundle, "onnxruntime", threads=1) as runtime,
        ):
            here = Tracker(runtime, color="rgb")
            for tracker in (there, here):
                tracker.init(frames[0], box)
            for frame in frames[1:]:
                found, expected = there.update(frame), here.update(frame)
                assert np.allclose(found.box, expected.box, atol=1e-4)
                assert np.isnan(found.score)
                assert not found.restarted
    finally:
        server.kill()
