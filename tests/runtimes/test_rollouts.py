"""The recorded rollouts through `relo-edge track` on the CPU runtimes, as a user runs them."""

import csv
import json

import cv2
import numpy as np
import pytest
from support import load_vectors
from verbs import run_verb

pytestmark = pytest.mark.slow

TOLERANCE = 0.1  # pixels


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The first rollout's frames as lossless images."""
    folder = tmp_path_factory.mktemp("frames")
    for index, frame in enumerate(load_vectors("rollout_1")["frames"]):
        cv2.imwrite(str(folder / f"{index:04d}.png"), frame[..., ::-1])
    return folder


def read_boxes(path):
    with path.open() as file:
        rows = list(csv.DictReader(file))
    return np.array([[float(row[key]) for key in "xywh"] for row in rows])


@pytest.mark.parametrize(
    ("runtime", "precision"), [("onnxruntime", "fp32"), ("openvino", "fp32"), ("pytorch", "fp32")]
)
def test_track_equals_the_release(t256_bundle, pictures, tmp_path, capsys, runtime, precision):
    vectors, boxes = load_vectors("rollout_1"), tmp_path / "boxes.csv"
    init = ",".join(str(float(value)) for value in vectors["init_box_xywh"])
    words = ["track", pictures, "--bundle", t256_bundle.path, "--init", init, "--boxes", boxes]
    words += ["--runtime", runtime, "--precision", precision, "--json"]
    code, out, _ = run_verb(capsys, *words)
    assert code == 0
    assert json.loads(out)["frames"] == 20
    tracked = read_boxes(boxes)
    np.testing.assert_allclose(tracked[0], vectors["init_box_xywh"])
    expected = vectors["t256_default_boxes"]
    np.testing.assert_allclose(tracked[1:], expected, rtol=0, atol=TOLERANCE)
