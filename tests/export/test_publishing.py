"""Export as a whole: published when it is right, and nothing left behind when it is not."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from relo_edge.bundle import open_bundle
from relo_edge.errors import GateError, InputError
from relo_edge.export import graphs, publishing, verification
from relo_edge.export.publishing import export_bundle
from relo_edge.export.verification import TOLERANCE
from relo_edge.network.checkpoint import Checkpoint, read_checkpoint
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.spec import VARIANTS

DEMO = VARIANTS["demo"]


@pytest.fixture
def checkpoint(demo_bundle):
    return read_checkpoint(demo_bundle.manifest["checkpoint"]["path"])


@pytest.fixture
def small_checkpoint(small_bundle):
    """What the small bundle is of, where it does not matter what is published."""
    source = Path(small_bundle.manifest["checkpoint"]["path"])
    return Checkpoint(small_bundle.variant, draw_weights(small_bundle.variant), source)


def test_the_manifest_tells_all(demo_bundle):
    manifest = demo_bundle.manifest
    assert open_bundle(demo_bundle.path).variant == DEMO
    assert set(manifest["files"]) == {"template.onnx", "step.onnx"}
    assert {"relo-edge", "torch", "onnx", "onnxruntime", "numpy"} <= set(manifest["tools"])
    frames = manifest["parity"]["fp32"]["frames"]
    assert len(frames) >= 8
    assert any(row["restarted"] for row in frames)
    assert all(row["policy_logits"] <= TOLERANCE for row in frames)
    assert not demo_bundle.find_damage()
    assert sorted(p.name for p in demo_bundle.path.iterdir()) == [
        "manifest.json",
        "step.onnx",
        "template.onnx",
    ]


@pytest.mark.slow
def test_an_existing_bundle_is_replaced_only_when_told(small_checkpoint, tmp_path):
    output = tmp_path / "new" / "bundle"
    export_bundle(small_checkpoint, output)
    with pytest.raises(InputError, match="--force"):
        export_bundle(small_checkpoint, output)
    export_bundle(small_checkpoint, output, replace=True)
    assert [p.name for p in output.parent.iterdir()] == ["bundle"]


@pytest.mark.slow
def test_the_bundle_one_stands_in_is_replaced(
    small_bundle, small_checkpoint, tmp_path, monkeypatch
):
    shutil.copytree(small_bundle.path, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path / "bundle")
    assert not export_bundle(small_checkpoint, Path(), replace=True).find_damage()


def test_something_else_is_never_replaced(checkpoint, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="found a folder of other things, expected a new folder"):
        export_bundle(checkpoint, tmp_path, replace=True)
    with pytest.raises(InputError, match="found a file, expected a new folder"):
        export_bundle(checkpoint, tmp_path / "notes.txt", replace=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def spoil_logits(monkeypatch):
    """A graph whose policy is off by a little in one weight."""
    build = graphs.build_step_graph

    def build_spoilt(variant, weights):
        tensors = dict(weights.tensors)
        name = "policy_model.conv5_ctr.weight"
        tensors[name] = tensors[name] * 1.01
        return build(variant, type(weights)(tensors))

    monkeypatch.setitem(graphs.BUILDERS, "step", build_spoilt)


def swap_layers_of_state(monkeypatch):
    """A graph that hands every block its neighbour's temporal tokens."""
    index = graphs.GraphBuilder.index
    monkeypatch.setattr(
        graphs.GraphBuilder, "index", lambda self, v: index(self, (v + 1) % DEMO.depth)
    )


def spoil_first_frame(monkeypatch):
    """A graph that takes the state at its word on a first frame too."""
    weight = graphs.GraphBuilder.weight

    def weigh(self, name, values):
        return weight(self, name, np.array(-1.0) if name == "history/half" else values)

    monkeypatch.setattr(graphs.GraphBuilder, "weight", weigh)


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [spoil_logits, swap_layers_of_state, spoil_first_frame])
def test_a_wrong_graph_is_not_published(checkpoint, tmp_path, monkeypatch, spoil):
    spoil(monkeypatch)
    with pytest.raises(GateError, match="differs from the network in frame"):
        export_bundle(checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_state_without_effect_is_noticed(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "_check_errors", lambda errors: None)
    add = graphs.GraphBuilder.add

    def add_without_history(self, op, name, inputs, **attributes):
        if op == "Where":
            inputs = [inputs[0], inputs[2], inputs[2]]
        return add(self, op, name, inputs, **attributes)

    monkeypatch.setattr(graphs.GraphBuilder, "add", add_without_history)
    with pytest.raises(GateError, match="ignores temporal_tokens"):
        export_bundle(checkpoint, tmp_path / "bundle")


def test_interrupting_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(publishing, "verify_graphs", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export_bundle(checkpoint, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_failed_replacement_keeps_the_old_bundle(
    small_bundle, small_checkpoint, tmp_path, monkeypatch
):
    path = shutil.copytree(small_bundle.path, tmp_path / "bundle")
    spoil_logits(monkeypatch)
    with pytest.raises(GateError):
        export_bundle(small_checkpoint, path, replace=True)
    assert open_bundle(path).manifest == small_bundle.manifest
    assert not open_bundle(path).find_damage()


@pytest.mark.slow
def test_large_activations_are_judged_by_their_size(tmp_path):
    """A trained network's temporal tokens may be in the hundreds; float32 has seven digits."""
    weights = dict(draw_weights(DEMO))
    weights["encoder.body.ttokens"] = weights["encoder.body.ttokens"] * 3000
    check_published(weights, tmp_path)


@pytest.mark.slow
def test_a_trained_policys_large_logits_are_judged_by_their_size(tmp_path):
    """The release's thresholds speak of scores near 50; a tie is a tie at any scale."""
    weights = dict(draw_weights(DEMO))
    for name in ("policy_model.conv5_ctr.weight", "policy_model.conv5_ctr.bias"):
        weights[name] = weights[name] * 100
    check_published(weights, tmp_path)


def check_published(weights, folder):
    """The bundle is published, with every frame of its verification within the tolerance."""
    from safetensors.torch import save_file

    path = folder / "large.safetensors"
    save_file(weights, path)
    bundle = export_bundle(Checkpoint(DEMO, weights, path), folder / "bundle")
    errors = bundle.manifest["parity"]["fp32"]["frames"]
    assert len(errors) == verification.FRAMES
    assert all(0 < row["box"] <= verification.TOLERANCE for row in errors)
