"""Roles: what each family's contract says, and runtimes on trackers of other shapes than RELO."""

from contextlib import closing

import numpy as np
import pytest
import torch
from recording_device import open_recorded
from toy_family import SIDE, TOY, write_toy

from relo_edge.bundle import open_bundle
from relo_edge.contract import INPUT_ROLES, OUTPUT_ROLES, describe_graph, list_graphs
from relo_edge.errors import GateError, InputError
from relo_edge.families.registry import FAMILIES, find_family, list_variants
from relo_edge.lost import Recovery
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.onnxruntime_gpu import OnnxGpuRuntime
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import MultiTracker, Tracker

RNG = np.random.default_rng(8)
FRAMES = RNG.integers(0, 256, (8, 3, SIDE, SIDE, 3), np.uint8)
PLACES = RNG.uniform(0.1, 0.9, (3, 4)).astype(np.float32)
DECAY = torch.tensor([0.9, 0.8, 0.7, 0.6])


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "toy", "toy_family")
        yield write_toy(tmp_path_factory.mktemp("toy"))


def open_bound(bundle, batch):
    provider = "CPUExecutionProvider"
    return OnnxGpuRuntime(bundle, "fp32", "onnxruntime-cuda", provider, batch=batch, device="cpu")


OPENERS = {
    "pytorch": lambda _, batch: PytorchRuntime(TOY, {"decay": DECAY}, batch=batch),
    "onnxruntime": lambda b, batch: open_runtime(b.path, "onnxruntime", batch=batch),
    "openvino": lambda b, batch: open_runtime(b.path, "openvino", "fp32", batch=batch),
    "io-binding": open_bound,
    "tensorrt-recorded": open_recorded,
}


@pytest.fixture(params=OPENERS.values(), ids=OPENERS.keys())
def opener(request, toy):
    return lambda batch=1: closing(request.param(toy, batch))


class Truth:
    """The same arithmetic by hand, one target at a time."""

    def __init__(self, place):
        self.place, self.state, self.before = place, None, None

    def step(self, frame):
        self.before = self.state
        light = frame.astype(np.float64).mean() / 255
        h, c = self.state or (np.zeros(4), self.place)
        h = h * DECAY.numpy() + light * self.place
        self.state = h, 0.5 * c + h
        return self.state[0] + self.state[1]


def start(runtime, *slots):
    for slot in slots:
        runtime.set_target(slot, "place", PLACES[slot])
        runtime.forget(slot)


def check(answer, truths, frame):
    wanted = [truth.step(FRAMES[frame, slot]) for slot, truth in truths]
    np.testing.assert_allclose(answer.boxes, wanted, atol=1e-5)
    assert np.isnan(answer.scores).all()
    assert answer.maps is None


def test_two_states_are_carried_and_each_target_has_its_own(opener):
    truths = [Truth(place) for place in PLACES]
    with opener(3) as runtime:
        start(runtime, 0, 1, 2)
        for frame, slots in enumerate([[0], [0, 2], [2, 1], [0, 1, 2], [1]]):
            answer = runtime.step(slots, FRAMES[frame, slots], None)
            check(answer, [(slot, truths[slot]) for slot in slots], frame)
        for slot, truth in enumerate(truths):
            kept = runtime.read_state(slot)
            assert list(kept) == ["h", "c"]
            for values, want in zip(kept.values(), truth.state, strict=True):
                np.testing.assert_allclose(values, want, atol=1e-5)


def test_a_first_frame_and_a_rewound_one_know_nothing_of_what_was(opener):
    truth, other = Truth(PLACES[0]), Truth(PLACES[1])
    with opener(2) as runtime:
        start(runtime, 0, 1)
        for frame in range(2):
            answer = runtime.step([0, 1], FRAMES[frame, :2], None)
            check(answer, [(0, truth), (1, other)], frame)
        runtime.rewind(0)
        truth.state = truth.before
        check(runtime.step([0, 1], FRAMES[2, :2], None), [(0, truth), (1, other)], 2)
        runtime.forget(1)
        other.state = None
        check(runtime.step([0, 1], FRAMES[3, :2], None), [(0, truth), (1, other)], 3)


@pytest.mark.parametrize("fault", ["swapped", "stale", "first frame", "carried"])
def test_a_state_that_is_not_the_last_one_shows(toy, fault):
    """What the test above would miss if boxes did not depend on it."""
    truth = Truth(PLACES[0])
    with closing(PytorchRuntime(TOY, {"decay": DECAY})) as runtime:
        start(runtime, 0)
        states = []
        for frame in range(3):
            runtime.step([0], FRAMES[frame, :1], None)
            truth.step(FRAMES[frame, 0])
            states.append(runtime.read_state(0))
        wrong = {
            "swapped": {"h": states[-1]["c"], "c": states[-1]["h"]},
            "stale": states[-2],
            "first frame": {name: np.zeros(4, np.float32) for name in states[-1]},
            "carried": {name: 2 * values for name, values in states[-1].items()},
        }[fault]
        runtime.write_state(0, wrong)
        got = runtime.step([0], FRAMES[3, :1], None).boxes[0]
    assert np.abs(got - truth.step(FRAMES[3, 0])).max() > 0.01


def test_what_there_is_not_is_refused_in_a_line(opener):
    with opener() as runtime:
        with pytest.raises(InputError, match="target tensor: found word, expected place"):
            runtime.set_target(0, "word", PLACES[0])
        crop = np.zeros((SIDE, SIDE, 3), np.uint8)
        with pytest.raises(InputError, match="toy has no templates"):
            runtime.encode_template(0, 0, crop, PLACES[0])


def test_a_tracker_without_map_and_score_tracks_and_calls_nothing_lost(toy):
    clip = make_clip(1, 6, (320, 240))
    frames = list(clip.frames())
    box = tuple(float(value) for value in clip.boxes[0])
    with open_runtime(toy, "onnxruntime") as runtime:
        tracker = Tracker(runtime, color="rgb")
        tracker.init(frames[0], box)
        tracks = [tracker.update(frame) for frame in frames[1:]]
        assert all(np.isfinite(track.box).all() and not track.lost for track in tracks)
        assert all(np.isnan([track.score, track.confidence]).all() for track in tracks)
        many = MultiTracker(runtime, color="rgb")
        many.add(frames[0], box)
        many.update(frames[1])
        assert many.views == {}
        with pytest.raises(InputError, match="toy cannot tell that a target is lost"):
            MultiTracker(runtime, color="rgb", recovery=Recovery())


def test_an_export_proves_that_each_state_matters(toy, tmp_path, monkeypatch):
    import toy_family

    def build_deaf(variant, weights):
        model = build(variant, weights)
        (node,) = (node for node in model.graph.node if node.name == "c/old")
        node.input[1] = "place"
        return model

    rows = toy.manifest["parity"]["fp32"]["frames"]
    assert list(rows[0]) == ["frame", "restarted", "box", "h", "c"]
    build = toy_family.BUILDERS["step"]
    monkeypatch.setitem(toy_family.BUILDERS, "step", build_deaf)
    with pytest.raises(GateError, match="step graph"):
        write_toy(tmp_path)


def test_a_bundle_names_its_family_and_an_unknown_one_is_refused(toy, tmp_path):
    assert toy.manifest["format"] == 2
    assert toy.manifest["family"] == open_bundle(toy.path).variant.family == "toy"


@pytest.mark.parametrize("name", sorted(list_variants()))
def test_every_contract_says_what_each_tensor_is_for(name):
    variant = list_variants()[name]
    for graph in list_graphs(variant):
        contract = describe_graph(variant, graph)
        assert {spec.role for spec in contract.inputs} <= set(INPUT_ROLES)
        assert {spec.role for spec in contract.outputs} <= set(OUTPUT_ROLES)
        assert len(contract.list_inputs("pixels")) == 1
        assert all(len(contract.list_inputs(role)) <= 1 for role in ("fresh", "shared"))
        assert all(state.before.shape == state.after.shape for state in contract.states)
        assert {s.after for s in contract.states} == set(contract.list_outputs("state"))
    step = describe_graph(variant, "step")
    made = find_family(variant.family).motion(variant, variant.protocol())
    assert step.pixels.at_batch(1)[1:] == made.pixels
    assert (step.find_input("shared") is None) == (made.shared is None)
