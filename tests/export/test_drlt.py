"""DRLT's graph: what is folded, what is not quantized, and the paper's size."""

import math

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from relo_edge.calibration.quantizer import list_products
from relo_edge.contract import PIXELS, describe_graph
from relo_edge.export import drlt, verification
from relo_edge.export.drlt import build_step_graph
from relo_edge.export.folding import Scope
from relo_edge.export.publishing import export_bundle
from relo_edge.families.registry import find_family
from relo_edge.network.checkpoint import Checkpoint
from relo_edge.network.drlt_sizes import DRLT_VARIANTS
from relo_edge.network.fixed_weights import draw_weights

DEMO = DRLT_VARIANTS["drlt-demo"]


@pytest.fixture(scope="module")
def weights():
    return {name: tensor.numpy() for name, tensor in draw_weights(DEMO).items()}


@pytest.fixture(scope="module")
def model(weights):
    return build_step_graph(DEMO, Scope(weights))


def read_constant(model, name):
    (found,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    return numpy_helper.to_array(found)


def test_the_contract_is_public(model):
    contract = describe_graph(DEMO, "step")
    assert [one.name for one in model.graph.input] == [spec.name for spec in contract.inputs]
    assert [spec.name for spec in contract.inputs] == ["frame", "location", "h", "c", "has_history"]
    assert [spec.name for spec in contract.outputs] == ["box", "h_out", "c_out"]
    assert contract.pixels.at_batch(2) == (2, 64, 64, 3)
    assert [spec.at_batch(2) for spec in contract.list_inputs("state")] == [(2, 192)] * 2


def test_pixels_are_divided_in_the_first_convolution(model, weights):
    stored = read_constant(model, "conv0/weight")
    assert np.array_equal(stored * 128, weights["observation.convolutions.0.weight"])
    (convolution,) = (node for node in model.graph.node if node.name == "conv0")
    assert convolution.input[0] == PIXELS


def test_both_biases_of_the_lstm_are_one(model, weights):
    both = weights["recurrent.bias_ih_l0"].astype(np.float64) + weights["recurrent.bias_hh_l0"]
    assert np.array_equal(read_constant(model, "gates/seen/bias"), both.astype(np.float32))


def test_a_location_is_not_quantized(model):
    products = list_products(model)
    assert "location/part" not in products
    assert {"conv4", "features/matmul", "gates/seen/matmul", "gates/remembered"} <= set(products)
    assert len(products) == 5 + 4


def repeat_noise(variant):
    """Weights of that size at the price of a million: the recipe takes a quarter of a minute."""
    noise = torch.randn(1_000_003, generator=torch.Generator().manual_seed(0))
    weights = {}
    shapes = find_family(variant.family).list_shapes(variant)
    for number, (name, shape) in enumerate(shapes.items()):
        scale = 0.1 if len(shape) == 1 else 1.4 / math.prod(shape[1:]) ** 0.5
        scale *= 1 + number / 1000  # equal weights would be stored once
        times = -(-math.prod(shape) // len(noise))
        weights[name] = (noise * scale).repeat(times)[: math.prod(shape)].reshape(shape)
    return weights


@pytest.mark.slow
def test_the_paper_s_size_is_exported_and_verified(tmp_path, monkeypatch):
    """536 million parameters; the file stays below the 2 GiB that ONNX can hold."""
    operators = []

    def build_listed(*inputs):
        model = build_step_graph(*inputs)
        operators.extend(node.op_type for node in model.graph.node)
        return model

    monkeypatch.setitem(drlt.BUILDERS, "step", build_listed)
    monkeypatch.setattr(verification, "FRAMES", 2)
    monkeypatch.setattr(verification, "RESTARTS", {1: [1]})
    variant = DRLT_VARIANTS["drlt"]
    weights = repeat_noise(variant)
    count = sum(tensor.numel() for tensor in weights.values())
    assert count == 535_885_260
    source = tmp_path / "recipe.pt"
    torch.save({"made by": "repeat_noise"}, source)
    bundle = export_bundle(Checkpoint(variant, weights, source), tmp_path / "drlt")
    size = (bundle.path / "step.onnx").stat().st_size
    assert 4 * (count - 20_000) < size < 2**31
    assert operators.count("Conv") == 24
