"""Real faults, each put into a real graph: parity fails, and its words point the right way."""

import json
import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from relo_edge.benchmarks.parity import rollout
from relo_edge.benchmarks.parity.layers import Side, walk_layers
from relo_edge.benchmarks.parity.rollout import compare_clips, find_stretches
from relo_edge.benchmarks.parity.verdict import judge_parity
from relo_edge.bundle import describe_files, open_bundle, write_manifest
from relo_edge.runtime import open_runtime

GRAPHS = ("template", "step")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(rollout, "SEEDS", range(1))
    monkeypatch.setattr(rollout, "FRAMES", 5)


@pytest.fixture(scope="module")
def reference(demo_bundle):
    return open_runtime(demo_bundle.path, "pytorch")


def tamper(bundle, folder, **changes):
    """A bundle whose graphs were changed and published as though nothing were wrong."""
    shutil.copytree(bundle.path, folder)
    for name, change in changes.items():
        model = onnx.load(folder / f"{name}.onnx")
        change(model)
        onnx.save(model, folder / f"{name}.onnx")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"] |= describe_files(folder, *(f"{name}.onnx" for name in GRAPHS))
    write_manifest(folder, manifest)
    return open_bundle(folder)


def compare(reference, bundle):
    candidate = open_runtime(bundle, "onnxruntime", "fp32")
    return compare_clips(reference, candidate, find_stretches([]))


def read_weight(model, name):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    return tensor, numpy_helper.to_array(tensor).copy()


def write_weight(model, name, change):
    tensor, values = read_weight(model, name)
    tensor.CopyFrom(numpy_helper.from_array(change(values).astype(values.dtype), name))


def zero_state(model):
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if name == "temporal_tokens":
                node.input[index] = "state/zeroed"
    shape = numpy_helper.from_array(np.zeros((), np.float32), "state/zero")
    model.graph.initializer.append(shape)
    node = helper.make_node("Mul", ["temporal_tokens", "state/zero"], ["state/zeroed"], "state/mul")
    model.graph.node.insert(0, node)


def swap_inputs(model, first, second):
    """Every reader of one tensor reads the other."""
    names = {first: second, second: first}
    for node in model.graph.node:
        if node.name.startswith("choice/"):
            node.input[:] = [names.get(name, name) for name in node.input]


def swap_maps(model):
    swap_inputs(model, "size/map", "offset/map")


def swap_heads(model):
    for last in ("weight", "bias"):
        names = [f"{head}/conv5/{last}" for head in ("size", "offset")]
        (one, first), (two, second) = (read_weight(model, name) for name in names)
        one.CopyFrom(numpy_helper.from_array(second, names[0]))
        two.CopyFrom(numpy_helper.from_array(first, names[1]))
    outputs = {"size/conv4": "offset/conv4", "offset/conv4": "size/conv4"}
    for node in model.graph.node:
        if node.name in ("size/conv5", "offset/conv5"):
            node.input[0] = outputs[node.input[0]]


def swap_channels(model):
    """Patches are flattened pixel by pixel, red first."""
    write_weight(
        model, "patch_embed/weight", lambda w: w.reshape(16, 3, -1)[:, ::-1].reshape(w.shape)
    )
    write_weight(model, "pixels/centre", lambda c: c)


def renormalise(gain, shift):
    """As though pixels were normalised to `gain * x/255 + shift`, by channel."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def change(model):
        _, centre = read_weight(model, "pixels/centre")
        _, weight = read_weight(model, "patch_embed/weight")
        # The right embedding: weight @ (x - centre) + bias, the weight with 1/(255 std) in it.
        plain = weight.reshape(16, 3, -1) * (255 * std)[None, :, None]
        scale = np.broadcast_to(gain, 3) / 255
        moved = centre.reshape(-1, 3)[0] if centre.size >= 3 else np.full(3, centre.item())
        right = moved / 255 / std - mean / std
        wrong = moved * scale + shift
        write_weight(
            model,
            "patch_embed/weight",
            lambda w: (plain * scale[None, :, None]).reshape(w.shape),
        )
        write_weight(
            model,
            "patch_embed/bias",
            lambda b: b + ((wrong - right)[None, :, None] * plain).sum(axis=(0, 1)),
        )

    return change


def perturb_all(model):
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("/weight"):
            values = numpy_helper.to_array(tensor)
            noise = 1 + 0.01 * rng.standard_normal(values.shape)
            tensor.CopyFrom(
                numpy_helper.from_array((values * noise).astype(values.dtype), tensor.name)
            )


def perturb_one(model):
    write_weight(model, "block3/mlp/w3/weight", lambda w: 1.01 * w)


def ignore_window(model):
    for node in model.graph.node:
        if node.name in ("score", "choice/cell"):
            node.input[0] = "policy/logits"


IMAGENET_REVERSED = (1 / np.array([0.225, 0.224, 0.229]), -np.array([0.406, 0.456, 0.485]))
CASES = {
    "zeroed state": (zero_state, "step", "temporal state", "first frame agrees"),
    "swapped maps": (swap_maps, "step", "box", "size and offset maps are swapped"),
    "swapped heads": (swap_heads, "step", "box", "size and offset heads are swapped"),
    "bgr": (swap_channels, "both", "channels", "BGR for RGB: red and blue are swapped"),
    "bgr search": (swap_channels, "step", "channels", "swapped of the search crop"),
    "no normalisation": (renormalise(1, 0), "both", "normalisation", "only divided by 255"),
    "half": (renormalise(2, -1), "both", "normalisation", "0.5 in place of ImageNet's"),
    "reversed": (
        renormalise(IMAGENET_REVERSED[0], IMAGENET_REVERSED[1] * IMAGENET_REVERSED[0]),
        "both",
        "normalisation",
        "BGR order",
    ),
    "odd": (renormalise(4.0, -2.2), "both", "weights", "an odd normalisation"),
    "weights": (perturb_all, "both", "weights", "--layers"),
    "one weight": (perturb_one, "step", "weights", "--layers"),
    "window": (ignore_window, "step", "window", "without the window"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_fails_and_is_named(case, reference, demo_bundle, tmp_path):
    change, where, part, words = CASES[case]
    names = GRAPHS if where == "both" else (where,)
    spoilt = tamper(demo_bundle, tmp_path / "spoilt", **dict.fromkeys(names, change))
    result = judge_parity(compare(reference, spoilt))
    assert not result.passed
    assert [cause.part for cause in result.causes] == [part]
    assert words in result.describe()


def test_the_tampering_itself_is_exact(reference, demo_bundle, tmp_path):
    """The right normalisation, put in the same way, changes nothing."""
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    right = renormalise(1 / std, -mean / std)
    same = tamper(demo_bundle, tmp_path / "same", template=right, step=right)
    result = judge_parity(compare(reference, same))
    assert result.passed
    assert result.causes == ()


def test_layers_find_the_one_weight(reference, demo_bundle, tmp_path):
    spoilt = tamper(demo_bundle, tmp_path / "spoilt", step=perturb_one)
    rollouts = compare(reference, spoilt)
    walk = walk_layers(rollouts[0].twin, Side(demo_bundle, "fp32"), Side(spoilt, "fp32"))
    assert walk.births[0].node == "block3/mlp/w3/matmul"
    assert walk.births[0].error == pytest.approx(0.01, rel=0.1)
    assert walk.births[0].before < 1e-5
    result = judge_parity(rollouts, walk)
    assert "born at  step: block3/mlp/w3/matmul (MatMul)" in result.describe()
    assert result.to_dict()["layers"]["births"][0]["node"] == "block3/mlp/w3/matmul"


def test_layers_find_where_an_odd_normalisation_comes_in(reference, demo_bundle, tmp_path):
    spoilt = tamper(demo_bundle, tmp_path / "spoilt", step=renormalise(4.0, -2.2))
    twin = compare(reference, spoilt)[0].twin
    walk = walk_layers(twin, Side(demo_bundle, "fp32"), Side(spoilt, "fp32"))
    assert walk.births[0].node.startswith("patch_embed")
    assert "where pixels enter: their normalisation" in walk.describe()


def test_layers_of_equal_graphs_have_no_births(reference, demo_bundle):
    rollouts = compare(reference, demo_bundle)
    side = Side(demo_bundle, "fp32")
    walk = walk_layers(rollouts[0].twin, side, side)
    assert walk.births == walk.growth == ()
    assert walk.tensors > 200
    assert "no error is born" in walk.describe()
