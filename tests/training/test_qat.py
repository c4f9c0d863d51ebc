"""Quantization-aware fine-tuning: what it may change, how it resumes, and what it hands over."""

import json
import shutil
import signal
from contextlib import closing
from dataclasses import replace
from itertools import count

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from small_training import (
    SMALL,
    copy_state,
    small_atlas,
    small_batch,
    small_network,
    take_steps,
)
from verbs import run_verb

from relo_edge.bundle import open_bundle
from relo_edge.calibration import plan
from relo_edge.calibration.trained_ranges import check_ranges
from relo_edge.errors import CalibrationError, InputError
from relo_edge.export.publishing import export_bundle
from relo_edge.graphs.int8_ranges import Int8Ranges, read_ranges, write_ranges
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.training import run
from relo_edge.training.checkpointing import RunState
from relo_edge.training.loop import LoopSettings, run_loop
from relo_edge.training.qat import Qat
from relo_edge.training.range_search import find_ranges
from relo_edge.training.render import Jitter
from relo_edge.training.rollout import roll_states
from relo_edge.training.synthetic_batches import ClipSettings, stream_clips

pytestmark = pytest.mark.slow


def small_stage(attention=False):
    network = small_network().eval()
    ranges = find_ranges(network, [small_batch()], attention=attention)
    return Qat(network.requires_grad_(False), attention, ranges)


@pytest.mark.parametrize("attention", [False, True])
def test_batch_norm_value_and_teacher_do_not_change_by_a_bit(attention):
    stage, network = small_stage(attention), small_network()
    before, teacher = copy_state(network), copy_state(stage.teacher)
    take_steps(network, stage, rate=1e-3)
    after = network.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    norms = {name for name, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert not {name for name in changed if name.rpartition(".")[0] in norms}
    assert not {name for name in changed if name.startswith("value_model")}
    assert {name.split(".")[0] for name in changed} == {"encoder", "decoder", "policy_model"}
    assert all(torch.equal(v, teacher[n]) for n, v in stage.teacher.state_dict().items())


def test_it_comes_closer_to_the_float_network():
    """Coarse ranges hurt; the steps make up for some of it."""
    stage, network = small_stage(), small_network()
    stage.ranges = {name: 4 * reach for name, reach in stage.ranges.items()}
    names = ("logits", "sizes", "offsets", "tokens")
    batch = small_batch(clips=8)
    optimizer = torch.optim.AdamW(stage.group_parameters(network), 1e-4, weight_decay=0)
    stage.set_mode(network)
    strays = []
    for _ in range(25):
        loss, shown = stage.learn(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        strays.append(sum(float(shown[name]) for name in names))
    assert sum(strays[-5:]) < 0.8 * sum(strays[:5])


def test_unrounded_it_is_the_float_network():
    """Folding and taking attention apart change nothing: all that is lost, rounding loses."""
    stage, batch = small_stage(attention=True), small_batch()
    twin = replace(stage.round_network(stage.teacher), visit=lambda _, values: values)
    twin.rounds_weights = False
    pairs = zip(roll_states(twin, batch), roll_states(stage.teacher, batch), strict=True)
    for (maps, state), (wanted, wanted_state) in pairs:
        assert torch.allclose(state, wanted_state, atol=1e-4)
        for got, want in zip(maps, wanted, strict=True):
            assert torch.allclose(got, want, atol=1e-4)


def train_small(folder, steps, network=None):
    stage, network = small_stage(), network or small_network()
    run_state = RunState(folder, "qat", {"seed": 1})
    run_state.restore(network)
    run_state.kept = run_state.kept or stage.ranges
    stage.ranges = run_state.kept
    clips = ClipSettings(2, 2, Jitter(), 1)
    settings = LoopSettings(steps, 1e-3, warm_steps=1, log_every=1, save_every=2, half=False)
    with closing(stream_clips(small_atlas(), SMALL, clips, count(run_state.step))) as stream:
        run_loop(network, stage, stream, settings, run_state)
    return network, run_state


def test_an_interrupted_run_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.training.loop.anneal", lambda step, settings: 1.0)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, _ = train_small(tmp_path / "whole", 4)
    train_small(tmp_path / "cut", 2)
    resumed, run_state = train_small(tmp_path / "cut", 4, small_network(seed=9))
    assert run_state.step == 4
    again = RunState(tmp_path / "cut", "qat", {"seed": 1})
    again.restore(small_network())
    assert again.kept == run_state.kept == small_stage().ranges
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-6), name


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of two steps from the demo weights, by the verb, and its bundle."""
    folder = tmp_path_factory.mktemp("qat")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "ATLAS", 6)
        patch.setattr(run, "RANGE_BATCHES", 1)
        request = run.TrainRequest(
            stage="qat",
            output=folder / "run",
            checkpoint=find_demo_checkpoint(),
            steps=2,
            batch_clips=4,
            threads=1,
            trial=False,
        )
        result = run.run_training(request)
    assert result.finished
    assert result.ranges == folder / "run" / "qat-ranges.json"
    return folder


@pytest.fixture(scope="module")
def bundle(trained):
    checkpoint = read_checkpoint(trained / "run" / "qat-checkpoint.pt")
    return export_bundle(checkpoint, trained / "bundle")


@pytest.fixture
def few_frames(monkeypatch):
    monkeypatch.setattr(plan, "FRAMES", 8)


def test_quantize_takes_the_ranges_over_as_they_are(trained, bundle, capsys, few_frames):
    file = trained / "run" / "qat-ranges.json"
    ranges = read_ranges(file)
    code, out, err = run_verb(capsys, "quantize", bundle.path, "--int8", "--ranges", file, "--json")
    assert code == 0, err
    assert json.loads(out)["method"] == "trained ranges"
    assert "ranges of step.onnx" not in err  # nothing was measured
    assert "judging trained ranges (2 of 4)" in err
    after = open_bundle(bundle.path)
    assert not after.find_damage()
    graph = onnx.load(after.graph("step", "int8")).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    scales = {
        node.input[0]: constants[node.input[1]]
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }
    assert scales.keys() == ranges.ranges.keys()
    for name, scale in scales.items():
        assert scale == pytest.approx(np.float32(ranges.ranges[name] / 127), rel=1e-6)
    notes = json.loads((bundle.path / "calibration.json").read_text())
    assert notes["thresholds"] == ranges.ranges


def test_the_packed_weights_may_have_them_too(trained):
    ranges = read_ranges(trained / "run" / "qat-ranges.json")
    assert set(ranges.weights) == {"qat-checkpoint.pt", "qat.safetensors"}
    for name, digest in ranges.weights.items():
        assert run.hash_file(trained / "run" / name) == digest


def drop_one(stored):
    stored["ranges"].pop("block2/norm1")


def add_one(stored):
    stored["ranges"]["block9/norm1"] = 1.0


def age(stored):
    stored["format"] = 0


def rename(stored):
    stored["variant"] = "t256"


def trade_weights(stored):
    stored["weights"] = {"qat-checkpoint.pt": "0" * 64}


def flip(stored):
    stored["ranges"]["block2/norm1"] = -1.0


def blow_up(stored):
    stored["ranges"]["block2/norm1"] = float("inf")


def empty(stored):
    del stored["ranges"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop_one, "another graph: found no range of block2/norm1"),
        (add_one, "another graph: found a range of block9/norm1"),
        (age, "found version 0, expected version 1"),
        (rename, "another variant: found t256, expected demo"),
        (trade_weights, "another weights: found qat-checkpoint.pt 000000000000"),
        (flip, "is damaged, ranges.'block2/norm1': found -1.0"),
        (blow_up, "is damaged, ranges.'block2/norm1': found Infinity"),
        (empty, "is damaged, ranges: found nothing"),
    ],
)
def test_foreign_or_stale_ranges_are_one_line(trained, bundle, tmp_path, capsys, change, words):
    stored = json.loads((trained / "run" / "qat-ranges.json").read_text())
    change(stored)
    (tmp_path / "ranges.json").write_text(json.dumps(stored))
    code, out, err = run_verb(
        capsys, "quantize", bundle.path, "--int8", "--ranges", tmp_path / "ranges.json"
    )
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert words in err


@pytest.mark.parametrize("content", [b"", b"no json", b"[1]", b"{}", b"\xff\xfe"])
def test_a_file_that_holds_no_ranges_is_one_line(tmp_path, content):
    (tmp_path / "ranges.json").write_bytes(content)
    with pytest.raises(CalibrationError, match="relo-edge train qat"):
        read_ranges(tmp_path / "ranges.json")
    with pytest.raises(InputError, match="cannot be opened"):
        read_ranges(tmp_path / "nowhere.json")


def test_ranges_with_attention_are_of_another_graph_than_without(trained, bundle):
    plain = read_ranges(trained / "run" / "qat-ranges.json")
    with pytest.raises(CalibrationError, match="no range of block0/attn/query/heads"):
        check_ranges(bundle, replace(plain, attention=True))


def test_ranges_survive_the_file(tmp_path):
    ranges = Int8Ranges("demo", {"a.pt": "12" * 32}, True, {"x": 0.1, "y": 1 / 3})
    write_ranges(tmp_path / "r.json", ranges)
    assert read_ranges(tmp_path / "r.json") == ranges


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fp16", "--ranges", "r.json"], "--fp16"),
        (["--int8", "--ranges", "r.json", "--attention"], "have no effect with --ranges"),
        (["--int8", "--ranges", "r.json", "--method", "mse"], "have no effect with --ranges"),
        (["--int8", "--ranges", "r.json"], "r.json cannot be opened"),
    ],
)
def test_wrong_use_of_ranges_is_one_line(small_bundle, capsys, words, message):
    code, _, err = run_verb(capsys, "quantize", small_bundle.path, *words)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert message in err


def test_a_change_of_mind_about_attention_is_another_training(
    trained, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(run, "ATLAS", 6)
    shutil.copytree(trained / "run", tmp_path / "run")
    start = find_demo_checkpoint()
    code, _, err = run_verb(
        capsys,
        "train",
        "qat",
        "--from",
        start,
        "-o",
        tmp_path / "run",
        "--batch-clips",
        2,
        "--attention",
    )
    assert code == 1
    assert "found attention False, expected attention True" in err


def test_an_interrupt_leaves_a_checkpoint_with_its_ranges(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "ATLAS", 6)
    monkeypatch.setattr(run, "RANGE_BATCHES", 1)
    learn = Qat.learn

    def press(self, network, batch):
        signal.raise_signal(signal.SIGINT)
        return learn(self, network, batch)

    monkeypatch.setattr(Qat, "learn", press)
    request = run.TrainRequest(
        stage="qat", output=tmp_path, checkpoint=find_demo_checkpoint(), steps=9, batch_clips=1
    )
    result = run.run_training(request)
    assert not result.finished
    ranges = read_ranges(tmp_path / "qat-ranges.json")
    assert ranges.weights == {"qat-checkpoint.pt": run.hash_file(tmp_path / "qat-checkpoint.pt")}
    assert result.to_dict()["ranges"] == str(tmp_path / "qat-ranges.json")
    assert str(result.ranges) in result.describe()
