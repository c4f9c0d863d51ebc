"""A teacher: its features are told by the tokens, and what learns from that is what should."""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from small_training import SMALL, small_batch, small_network, take_steps
from verbs import run_verb

from relo_edge.errors import InputError
from relo_edge.training import run
from relo_edge.training.teacher import Teacher
from relo_edge.training.warmup import TEACHER, Warmup


def write_backbone(path, side=64, stride=8, kernel=None, **changes):
    """A convolution: each feature is a mean of its square's red, or of its green."""
    kernel = kernel or stride
    weight = np.zeros((2, 3, kernel, kernel), np.float32)
    weight[0, 0], weight[1, 1] = 1 / kernel**2, 1 / kernel**2
    cells = (side - kernel) // stride + 1
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[stride, stride])
    shapes = {"x": changes.get("input", [1, 3, side, side]), "y": [1, 2, cells, cells]}
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    outputs = values[1:] * changes.get("outputs", 1)
    constants = [numpy_helper.from_array(weight, "w")]
    graph = helper.make_graph([node], "backbone", values[:1], outputs, constants)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


@pytest.fixture
def teacher(tmp_path):
    return Teacher(write_backbone(tmp_path / "backbone.onnx"), SMALL)


def mean_patches(crops, size=8):
    """Red and green of each 16-pixel patch's four squares, as the backbone has them."""
    count = crops.shape[1] // 16
    squares = crops[..., :2].double().unflatten(2, (-1, size)).unflatten(1, (-1, size))
    means = squares.mean(dim=(2, 4))  # [B,rows,columns,2]
    patches = means.unflatten(2, (count, 2)).unflatten(1, (count, 2))
    return patches.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2).float()


def test_the_features_are_those_of_each_tokens_patch(teacher):
    batch = small_batch()
    for crops in (batch.searches[:, 0], batch.templates):
        seen = teacher._see(crops)
        torch.testing.assert_close(seen, mean_patches(crops), rtol=1e-4, atol=1e-3)


def test_features_count_alike_whatever_their_size(teacher):
    batches = [small_batch(clips=8, seed=seed) for seed in range(3)]
    teacher.look_at(iter(batches))
    seen = torch.cat([teacher._see(batch.searches[:, 0]) for batch in batches])
    standard = ((seen - teacher.mean) / teacher.deviation).flatten(0, 1)
    assert standard.mean(dim=0).abs().max() < 1e-3
    assert (standard.std(dim=0) - 1).abs().max() < 1e-2


def test_the_error_is_the_mean_square_of_search_and_half_of_template(teacher):
    batch = small_batch(frames=2)
    tokens = [torch.zeros(3, 16 + 4 + 2, SMALL.width) for _ in range(2)]
    torch.nn.init.constant_(teacher.map.bias, 0.5)
    wanted = [mean_patches(batch.searches[:, frame]) for frame in range(2)]
    wanted.append(mean_patches(batch.templates))
    errors = [(0.5 - values.clamp(-4, 4)).square().mean() for values in wanted]
    expected = (errors[0] + errors[1]) / 2 + 0.5 * errors[2]
    torch.testing.assert_close(teacher.measure_error(tokens, batch), expected, rtol=1e-3, atol=0)


def test_the_loss_has_its_part_and_reaches_what_comes_before_the_tokens(teacher):
    network, batch = small_network(), small_batch()
    torch.nn.init.normal_(teacher.map.weight)
    plain, taught = Warmup(), Warmup(teacher=teacher)
    plain.set_mode(network)
    torch.manual_seed(1)
    alone, _ = plain.learn(network, batch)
    torch.manual_seed(1)
    loss, shown = taught.learn(network, batch)
    torch.testing.assert_close(loss - alone, TEACHER * shown["teacher"])
    assert not network.encoder.body.blocks[-SMALL.depth]._forward_hooks
    groups = taught.group_parameters(network)
    assert [group["scale"] for group in groups] == [0.1, 1.0, 2.0]
    shown["teacher"].backward()
    moved = {n for n, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    blocks = network.encoder.body.blocks
    first, last = (f"blocks.{len(blocks) - SMALL.depth + n}." for n in (0, 1))
    assert any(first in name for name in moved)
    assert not any(last in name or "decoder" in name for name in moved)
    assert teacher.map.weight.grad.any()


@pytest.mark.slow
def test_the_tokens_learn_to_tell(teacher):
    torch.manual_seed(0)
    teacher.look_at([small_batch(clips=8)])
    network, stage = small_network(), Warmup(encoder_rate=1.0, teacher=teacher)
    before = take_steps(network, stage, count=1, rate=3e-3)["teacher"]
    after = take_steps(network, stage, count=25, rate=3e-3)["teacher"]
    assert after < 0.7 * before


def write_nothing(path):
    path.write_text("nothing")
    return path


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (write_nothing, "expected ONNX"),
        (lambda path: path, "none.onnx"),
        (lambda path: write_backbone(path, outputs=2), "found 1 inputs and 2 outputs"),
        (lambda path: write_backbone(path, input=[1, 3, "h", "w"]), "found input [1, 3, 0, 0]"),
        (lambda path: write_backbone(path, kernel=12), "found features of shape [1, 2, 7, 7]"),
        (lambda path: write_backbone(path, stride=32), "found features of shape [1, 2, 2, 2]"),
    ],
    ids=["text", "absent", "two outputs", "no size", "odd cells", "too few cells"],
)
def test_what_is_no_backbone_is_refused_in_one_line(tmp_path, write, message):
    path = write(tmp_path / "none.onnx")
    with pytest.raises(InputError) as caught:
        Teacher(path, SMALL)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_warm_up_has_a_teacher(capsys, tmp_path):
    words = ["train", "slt", "-o", tmp_path / "x", "--from", "a.pt", "--teacher", "t.onnx"]
    code, _, err = run_verb(capsys, *words)
    assert (code, err.strip()) == (2, "relo-edge: --teacher: found with slt, expected with warmup")


@pytest.mark.slow
def test_the_verb_goes_on_with_the_map_that_it_has_learned(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(run, "ATLAS", 6)
    monkeypatch.setattr("relo_edge.training.loop.anneal", lambda step, settings: 1.0)
    backbone = write_backbone(tmp_path / "b.onnx", side=128)
    words = ["--batch-clips", "2", "--threads", "1", "--no-trial", "--json", "--teacher", backbone]
    for folder, counts in (("whole", [3]), ("cut", [2, 3])):
        for steps in counts:
            command = ["train", "warmup", "-o", tmp_path / folder, "--steps", str(steps), *words]
            code, out, err = run_verb(capsys, *command)
            assert (code, json.loads(out)["steps"]) == (0, steps), err
    whole, cut = (torch.load(tmp_path / name / "warmup-checkpoint.pt") for name in ("whole", "cut"))
    for part in ("learning", "kept"):
        pairs = zip(flatten(whole[part]), flatten(cut[part]), strict=True)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs), part
    assert "teacher" in (tmp_path / "whole" / "warmup-log.csv").read_text().splitlines()[0]
    other = ["train", "warmup", "-o", tmp_path / "cut", "--steps", "4", *words[:-2]]
    code, _, err = run_verb(capsys, *other)
    assert code == 1
    assert "belongs to another training run: found teacher" in " ".join(err.split())


def flatten(tree):
    for value in tree.values():
        yield from flatten(value) if isinstance(value, dict) else [value]
