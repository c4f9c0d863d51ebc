"""SUTrack from checkpoint to boxes: a small one in every runtime, and what it does not tell."""

import csv
import shutil
from contextlib import closing

import numpy as np
import onnx
import pytest
from engines import quantize_products
from layouts import write_plain
from recording_device import open_recorded
from shortened import shorten
from small_sutrack import SMALL, open_reference, small_text_tower
from verbs import run_verb

from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import measure_ranges
from relo_edge.calibration.qdq_rules import find_violations
from relo_edge.calibration.recording_runtime import RecordingRuntime, open_encoder
from relo_edge.calibration.samples import create_samples, read_samples
from relo_edge.calibration.verdict import measure_outputs
from relo_edge.contract import describe_graph
from relo_edge.families.registry import list_families
from relo_edge.families.sutrack import SIZES, TEXT
from relo_edge.geometry import read_box
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.onnxruntime_gpu import OnnxGpuRuntime
from relo_edge.spec import TrackerProtocol
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import MultiTracker, Tracker

STEP = describe_graph(SMALL, "step")


@pytest.fixture(scope="module")
def clip():
    return make_clip(4, 9, (320, 240))


def follow(runtime, clip, protocol=None):
    frames, tracker = clip.frames(), Tracker(runtime, protocol, color="rgb")
    tracker.init(next(frames), read_box(clip.boxes[0]))
    return [tracker.update(frame) for frame in frames]


@pytest.fixture(scope="module")
def expected(clip):
    with closing(open_reference()) as runtime:
        return follow(runtime, clip)


def open_bound(bundle):
    provider = "CPUExecutionProvider"
    return OnnxGpuRuntime(bundle, "fp32", "onnxruntime-cuda", provider, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    "opener",
    [
        lambda b: open_runtime(b.path, "onnxruntime"),
        lambda b: open_runtime(b.path, "openvino", "fp32"),
        open_bound,
        open_recorded,
    ],
    ids=["onnxruntime", "openvino", "io-binding", "tensorrt-recorded"],
)
def test_every_runtime_is_the_same_tracker(sutrack_bundle, clip, expected, opener):
    """Closed loop, with the second template renewed every third frame."""
    with closing(opener(sutrack_bundle)) as runtime:
        tracks = follow(runtime, clip)
        assert runtime.read_state(0) == {}
    boxes = [[track.box for track in some] for some in (tracks, expected)]
    np.testing.assert_allclose(*boxes, atol=0.05)
    scores = [[track.score for track in some] for some in (tracks, expected)]
    np.testing.assert_allclose(*scores, atol=1e-4)


@pytest.mark.slow
def test_a_new_template_changes_the_track(clip, expected):
    with closing(open_reference()) as runtime:
        never = follow(runtime, clip, TrackerProtocol(1.0))
    same = [one.score == other.score for one, other in zip(never, expected, strict=True)]
    assert same[:3] == [True] * 3
    assert not any(same[3:])


def test_it_tells_a_score_and_no_confidence(expected):
    assert all(0 < track.score < 1 for track in expected)
    assert all(np.isnan(track.confidence) and not track.lost for track in expected)


def test_words_belong_to_one_target(sutrack_bundle, clip):
    """They move the map, of their own target alone, and end with it."""
    frames, box = list(clip.frames()), read_box(clip.boxes[0])
    words = np.random.default_rng(0).normal(0, 2, (1, SMALL.width)).astype(np.float32)
    with open_runtime(sutrack_bundle, "onnxruntime", batch=2) as runtime:
        tracker = MultiTracker(runtime, color="rgb")
        targets = [tracker.add(frames[0], box) for _ in range(2)]
        runtime.set_target(1, TEXT, words)
        tracks = tracker.update(frames[1])
        assert abs(tracks[targets[0]].score - tracks[targets[1]].score) > 1e-3
        tracker.remove(targets[1])
        again = tracker.add(frames[0], box)
        tracker.remove(targets[0])
        first = tracker.add(frames[0], box)
        tracks = tracker.update(frames[1])
        assert tracks[again].score == tracks[first].score


@pytest.fixture(scope="module")
def samples(sutrack_bundle, clip, tmp_path_factory):
    """What the graphs were fed while it tracked."""
    path = tmp_path_factory.mktemp("samples") / "run.npz"
    with open_runtime(sutrack_bundle, "onnxruntime") as runtime, create_samples(path) as writer:
        follow(RecordingRuntime(runtime, open_encoder(sutrack_bundle), writer), clip)
    return path


def test_a_recording_holds_every_input_of_the_contract(samples):
    rows = list(read_samples(samples, "step"))
    assert len(rows) == 8
    assert {name: (a.dtype.name, a.shape) for name, a in rows[0].items()} == {
        spec.name: (spec.dtype, spec.at_batch(1)) for spec in STEP.inputs
    }
    assert len(list(read_samples(samples, "template"))) == SMALL.templates + 2


@pytest.mark.slow
def test_fp16_is_close_and_keeps_the_clipped_sigmoid_in_float32(sutrack_bundle, samples, tmp_path):
    source = sutrack_bundle.graph("step")
    ranges = measure_ranges(source, read_samples(samples, "step"))
    half = convert_fp16(onnx.load(source), SMALL, ranges)
    assert {"centre/scores", "score_map", "box", "score"} <= set(half.kept)
    onnx.save(half.model, tmp_path / "half.onnx")
    feeds, held = read_samples(samples, "step"), iter([True] * 8)
    found = measure_outputs(source, tmp_path / "half.onnx", STEP, feeds, held)
    assert set(found.outputs) == {"score_map", "sizes", "offsets"}
    assert min(error.cosine for error in found.outputs.values()) > 0.999
    assert found.argmax_agreement == 1


@pytest.mark.slow
def test_int8_keeps_tensorrts_rules(sutrack_bundle):
    model = quantize_products(onnx.load(sutrack_bundle.graph("step")))
    assert not find_violations(model)
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("QuantizeLinear") > 10


def test_six_channels_are_three_and_constants_are_no_input(sutrack_bundle):
    path = sutrack_bundle.graph("step")  # which refuses what it does not accept
    graph = onnx.load(path).graph
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    assert shapes["patch_embed/weight"] == [4 * 4 * 3, SMALL.width // 4]
    assert [value.name for value in graph.input] == [spec.name for spec in STEP.inputs]


@pytest.mark.parametrize("family", list_families(), ids=lambda family: family.name)
def test_a_checkpoint_is_recognised_by_its_tensors(family):
    for variant in family.variants.values():
        assert family.recognise(family.list_shapes(variant)) == variant
    assert family.recognise({family.marker: (1, 2, 3)}) is None


@pytest.fixture(scope="module")
def video(clip, tmp_path_factory):
    from relo_edge.host.opencv import cv2

    path = tmp_path_factory.mktemp("video") / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, clip.size)
    for frame in clip.frames():
        writer.write(frame)
    writer.release()
    return path


@pytest.mark.slow
def test_the_verbs_take_it_and_say_what_it_does_not_tell(sutrack_bundle, video, tmp_path, capsys):
    start = ["track", video, "--bundle", sutrack_bundle.path, "--init", "100,80,40,40"]
    code, out, _ = run_verb(capsys, *start, "--boxes", tmp_path / "boxes.csv")
    assert code == 0, out
    assert "does not tell its confidence" in out
    with (tmp_path / "boxes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["confidence"] for row in rows[1:]} == {"nan"}
    assert {row["lost"] for row in rows} == {"0"}
    code, _, err = run_verb(capsys, *start, "--recover")
    assert code == 1 or code == 2
    assert "sutrack-small cannot tell that a target is lost" in err
    code, out, _ = run_verb(capsys, "inspect", sutrack_bundle.path)
    assert code == 0
    assert "SUTrack sutrack-small (" in out


@pytest.mark.slow  # a whole quantization, comparison and bench
def test_the_other_verbs_take_it_too(sutrack_bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(SIZES, SMALL.name, SMALL)
    shorten(monkeypatch, "parity", "bench")
    bundle = tmp_path / "sutrack-small"
    shutil.copytree(sutrack_bundle.path, bundle)
    data = write_plain(tmp_path / "data")
    runs = [
        ["parity", bundle, "--runtime", "onnxruntime"],
        ["quantize", bundle, "--int8", "--quick"],
        ["bench", bundle, "--runtime", "onnxruntime", "--threads", "1"],
        ["eval", bundle, data, "--runtime", "onnxruntime", "-o", tmp_path / "results"],
        ["inspect", bundle],
    ]
    with small_text_tower():
        for words in runs:
            code, out, err = run_verb(capsys, *words)
            assert code == 0, (words, out, err)
    assert "int8 against float32 when quantized: cosine score_map" in out
