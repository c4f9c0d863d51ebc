"""FP8: the places of INT8, E4M3's own numbers, and the CPU that judges it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from relo_edge.calibration.fp8 import list_fp8_products, quantize_fp8_graph
from relo_edge.calibration.plan import plan_runs
from relo_edge.calibration.qdq_rules import find_violations
from relo_edge.calibration.quantizer import list_activations, list_products
from relo_edge.calibration.recording import record_samples
from relo_edge.calibration.thresholds import collect_spreads
from relo_edge.clips.clip import find_clips
from relo_edge.graphs.sessions import open_exposed, open_session

OUTPUTS = ["policy_logits", "temporal_tokens_out"]


@pytest.fixture(scope="module")
def path(small_bundle):
    return small_bundle.graph("step")


@pytest.fixture(scope="module")
def feeds(small_bundle, tmp_path_factory):
    runs = plan_runs(find_clips([])[:1], 4)
    folder = tmp_path_factory.mktemp("recording") / "r"
    return list(record_samples(small_bundle, runs, folder).step_feeds())


@pytest.fixture(scope="module")
def thresholds(path, feeds):
    model = onnx.load(path)
    tensors = list_activations(model, list_fp8_products(model, attention=True))
    spreads = collect_spreads(path, tensors, feeds)
    return {name: spread.find_threshold("minmax") for name, spread in spreads.items()}


def quantize(path, thresholds, attention=False):
    model = onnx.load(path)
    return quantize_fp8_graph(model, list_fp8_products(model, attention=attention), thresholds)


@pytest.mark.slow
@pytest.mark.parametrize("attention", [False, True])
def test_the_pairs_are_those_of_int8_but_for_the_pixels(path, thresholds, attention):
    model = onnx.load(path)
    products = list_products(model, attention=attention)
    assert set(products) - set(list_fp8_products(model, attention=attention)) == {
        "patch_embed/matmul"
    }
    quantized = quantize(path, thresholds, attention)
    assert find_violations(quantized) == []
    makers = {name: node for node in quantized.graph.node for name in node.output}
    paired = {
        node.name
        for node in quantized.graph.node
        if any(n in makers and makers[n].op_type == "DequantizeLinear" for n in node.input)
    }
    assert paired == set(list_fp8_products(model, attention=attention))
    zeros = {node.input[2] for node in quantized.graph.node if node.op_type == "QuantizeLinear"}
    types = {t.data_type for t in quantized.graph.initializer if t.name in zeros}
    assert types == {TensorProto.FLOAT8E4M3FN}


@pytest.mark.slow
def test_weights_use_the_whole_of_e4m3_in_each_channel(path, thresholds):
    quantized = quantize(path, thresholds)
    stored = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer}
    source = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    weight = stored["block1/mlp/w3/weight_quantized"].astype(np.float32)
    assert (np.abs(weight).max(axis=0) == 448).all()
    restored = weight * stored["block1/mlp/w3/weight_scale"]
    expected = source["block1/mlp/w3/weight"]
    largest = np.abs(expected).max(axis=0)
    # Half a step of three bits of mantissa; of the least numbers, half of 2 ** -9.
    assert (np.abs(restored - expected) <= np.maximum(np.abs(expected) / 16, largest / 448e3)).all()


@pytest.mark.slow
def test_an_activation_s_threshold_becomes_448(path, thresholds):
    quantized = quantize(path, thresholds)
    stored = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer}
    scale = float(stored["block1/norm1_scale"])
    assert scale == pytest.approx(thresholds["block1/norm1"] / 448)


@pytest.mark.slow
@pytest.mark.parametrize("attention", [False, True])
def test_outputs_stay_close(path, thresholds, feeds, attention):
    one, other = open_session(path), open_session(quantize(path, thresholds, attention))
    for sample in feeds:
        for a, b in zip(one.run(OUTPUTS, sample), other.run(OUTPUTS, sample), strict=True):
            assert (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) > 0.95


@pytest.mark.slow
def test_onnxruntime_keeps_each_relu(path, thresholds, feeds, tmp_path):
    """Its own rule takes an E4M3 zero for the least value and drops the ReLU before it."""
    onnx.save(quantize(path, thresholds), tmp_path / "step.onnx")
    plain = open_session(tmp_path / "step.onnx", fuse_qdq=False)
    exposed = open_exposed(tmp_path / "step.onnx", ["policy/conv2"])
    found, relu = exposed.run(["policy_logits", "policy/conv2"], feeds[0])
    assert relu.min() == 0
    assert np.abs(plain.run(["policy_logits"], feeds[0])[0] - found).max() < 1e-4
