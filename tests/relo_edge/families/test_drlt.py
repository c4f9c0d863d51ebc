"""DRLT as a family: whole frames, two states, and runtimes that follow as the network does."""

import threading
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recording_device import open_recorded

from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.verdict import mark_held
from relo_edge.errors import CheckpointError, GateError
from relo_edge.export import drlt as builder
from relo_edge.export.publishing import export_bundle
from relo_edge.families.drlt import FAMILY
from relo_edge.families.motion import RgbCropper
from relo_edge.geometry import box_in_frame, read_box
from relo_edge.network.checkpoint import Checkpoint, read_checkpoint
from relo_edge.network.drlt import LstmState, build_drlt, drlt_shapes
from relo_edge.network.drlt_sizes import DRLT_VARIANTS, Convolution, build_variant
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.streams.sharing import SharedRuntime, StreamTracker
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import MultiTracker, Tracker

SMALL = build_variant(
    "drlt-small", 16, [Convolution(8, 3, 2, pool=2), Convolution(6, 1)], features=12, width=16
)
WEIGHTS = draw_weights(SMALL)
CLIPS = [make_clip(seed, 6, (160, 120)) for seed in (1, 2)]


def export_small(folder, weights=WEIGHTS):
    source = folder / "weights.pt"
    torch.save(dict(weights), source)
    return export_bundle(Checkpoint(SMALL, weights, source), folder / "bundle")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return export_small(tmp_path_factory.mktemp("drlt"))


OPENERS = {
    "pytorch": lambda _, batch: PytorchRuntime(SMALL, WEIGHTS, batch=batch),
    "onnxruntime": lambda b, batch: open_runtime(b.path, "onnxruntime", batch=batch),
    "openvino": lambda b, batch: open_runtime(b.path, "openvino", "fp32", batch=batch),
    "tensorrt-recorded": open_recorded,
}


def follow(clip):
    """The network's own answer for a whole clip, box by box."""
    pixels = np.empty((len(clip), 16, 16, 3), np.uint8)
    for target, frame in zip(pixels, clip.frames(), strict=True):
        RgbCropper().shrink(frame[..., ::-1].copy(), target)
    location = box_in_frame(read_box(clip.boxes[0]), clip.size)
    network = build_drlt(SMALL, WEIGHTS)
    with torch.inference_mode():
        frames = torch.from_numpy(pixels)[None]
        return network.follow(frames, torch.from_numpy(location)[None])[0].numpy()


def locate(answer, clip):
    motion = FAMILY.motion(SMALL, SMALL.protocol())
    return motion.locate(answer, (0, 0, 1, 1), None, clip.size)


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
def test_a_tracker_follows_as_the_network_does(small, opener):
    with closing(opener(small, 2)) as runtime:
        tracker = MultiTracker(runtime, color="bgr")
        frames = [list(clip.frames()) for clip in CLIPS]
        told = [follow(clip) for clip in CLIPS]
        for clip, pictures in zip(CLIPS, frames, strict=True):
            # Both start in their own frame, so that the second start must leave the first alone.
            tracker.add(pictures[0], read_box(clip.boxes[0]))
        for index in range(1, 3):
            first = tracker.update(frames[0][index])[0]
            np.testing.assert_allclose(first.box, locate(told[0][index], CLIPS[0]), atol=0.02)
        assert np.isnan([first.score, first.confidence]).all()
        assert not first.lost
        alone = Tracker(runtime, color="bgr")
        alone.init(frames[1][0], read_box(CLIPS[1].boxes[0]))
        for index in range(1, 4):
            box = alone.update(frames[1][index]).box
            np.testing.assert_allclose(box, locate(told[1][index], CLIPS[1]), atol=0.02)


def test_streams_on_one_runtime_follow_as_each_does_alone():
    boxes = {0: [], 1: []}

    def track(stream, tracker):
        first, *others = CLIPS[stream].frames()
        tracker.add(first, read_box(CLIPS[stream].boxes[0]))
        boxes[stream] += [tracker.update(frame)[0].box for frame in others]

    with closing(PytorchRuntime(SMALL, WEIGHTS, batch=2)) as runtime:
        shared = SharedRuntime(runtime)
        trackers = [StreamTracker(shared.share(1), color="bgr") for _ in CLIPS]
        threads = [
            threading.Thread(target=track, args=call, daemon=True) for call in enumerate(trackers)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    for clip, found in zip(CLIPS, boxes.values(), strict=True):
        told = [locate(answer, clip) for answer in follow(clip)[1:]]
        np.testing.assert_allclose(found, told, atol=0.02)


def step_network(network, clip, state, known, index):
    (frame,) = clip.frames([index])
    pixels = np.empty((16, 16, 3), np.uint8)
    RgbCropper().shrink(frame, pixels)
    location = box_in_frame(read_box(clip.boxes[0]), clip.size)
    feeds = (torch.from_numpy(pixels)[None], torch.from_numpy(location)[None])
    with torch.inference_mode():
        return network(*feeds, state, torch.tensor([float(known)])), pixels


FAULTS = ["swapped", "stale", "first frame", "no location"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS.keys())
def test_a_state_that_is_not_the_last_one_shows(small, opener, fault):
    """Every runtime against the network, which is fed wrongly in one way."""
    network, clip = build_drlt(SMALL, WEIGHTS), CLIPS[0]
    state = LstmState(torch.zeros(1, 16), torch.zeros(1, 16))
    with closing(opener(small, 1)) as runtime:
        location = box_in_frame(read_box(clip.boxes[0]), clip.size)
        runtime.set_target(0, "location", location)
        runtime.forget(0)
        for index in range(3):
            before = state
            (box, state), pixels = step_network(network, clip, state, index > 0, index)
            got = runtime.step([0], pixels[None], None).boxes[0]
            np.testing.assert_allclose(got, box[0], atol=1e-5)
        kept = runtime.read_state(0)
        np.testing.assert_allclose(kept["h"], state.hidden[0], atol=1e-5)
        np.testing.assert_allclose(kept["c"], state.cell[0], atol=1e-5)
        wrong = {
            "swapped": (LstmState(state.cell, state.hidden), True),
            "stale": (before, True),
            "first frame": (state, False),
            "no location": (LstmState(*(torch.zeros_like(s) for s in state)), True),
        }[fault]
        (box, _), pixels = step_network(network, clip, *wrong, 3)
        got = runtime.step([0], pixels[None], None).boxes[0]
        assert np.abs(got - box[0].numpy()).max() > 1e-3


@pytest.mark.parametrize("names", [("h_out", "c_out"), ("h", "c")])
def test_a_graph_that_mixes_up_its_states_is_not_published(names, tmp_path, monkeypatch):
    def build_mixed(variant, weights):
        model = builder.build_step_graph(variant, weights)
        other = dict(zip(names, reversed(names), strict=True))
        for node in model.graph.node:
            node.input[:] = [other.get(one, one) for one in node.input]
            node.output[:] = [other.get(one, one) for one in node.output]
        return model

    monkeypatch.setitem(builder.BUILDERS, "step", build_mixed)
    with pytest.raises(GateError, match="step graph differs from the network"):
        export_small(tmp_path)
    assert not (tmp_path / "bundle").exists()


def test_a_verdict_counts_the_step_of_the_first_frame():
    boxes = np.zeros((3, 4))
    run = SimpleNamespace(truth=boxes)
    recording = SimpleNamespace(runs=[run, run], boxes=lambda: [boxes, boxes])
    assert list(mark_held(recording, SMALL)) == [True, False, False, False] * 2


def test_half_precision_keeps_what_the_box_is_made_of(small):
    import onnx

    half = convert_fp16(onnx.load(small.graph("step")), SMALL, {})
    assert half.state_dtype == "float32"
    assert {"box", "h_out", "c_out", "lstm/gates"} <= set(half.kept)
    assert not {"conv0", "features/matmul", "gates/seen/matmul", "gates/remembered"} & set(
        half.kept
    )


def test_checkpoints_are_recognised_by_their_shapes(tmp_path):
    variant = DRLT_VARIANTS["drlt-demo"]
    torch.save({"net": dict(draw_weights(variant))}, tmp_path / "demo.pt")
    assert read_checkpoint(tmp_path / "demo.pt").variant == variant
    assert FAMILY.recognise(drlt_shapes(DRLT_VARIANTS["drlt"])).name == "drlt"
    torch.save(dict(WEIGHTS), tmp_path / "small.pt")
    with pytest.raises(CheckpointError, match="no known variant"):
        read_checkpoint(tmp_path / "small.pt")


def test_the_whole_frame_goes_in_and_shares_of_it_come_out():
    motion = FAMILY.motion(SMALL, SMALL.protocol())
    frame = np.zeros((120, 160, 3), np.uint8)
    frame[:60, 80:] = 255
    pixels = np.empty(motion.pixels, np.uint8)
    assert motion.fill_pixels(pixels, frame, (0, 0, 5, 5), 1.0, RgbCropper()) is None
    assert (pixels[:8, 8:] == 255).all()
    assert pixels.sum() == 255 * 3 * 64
    told = motion.describe_target((40, 30, 80, 60), (160, 120))
    assert told["location"].tolist() == [0.5, 0.5, 0.5, 0.5]
    assert motion.locate(told["location"], (0, 0, 1, 1), None, (160, 120)) == (40, 30, 80, 60)
    outside = motion.locate(np.float32([0.9, 0.5, 0.4, 0.5]), (0, 0, 1, 1), None, (160, 120))
    assert outside == pytest.approx((112, 30, 48, 60), abs=1e-3)
