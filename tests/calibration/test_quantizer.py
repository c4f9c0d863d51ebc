"""The INT8 graph: Q/DQ where TensorRT wants them, small, and close to the float graph."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from rollouts import open_graph

from relo_edge.calibration import quantizer
from relo_edge.calibration.plan import plan_runs
from relo_edge.calibration.qdq_rules import RULES, find_violations
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.calibration.recording import record_samples
from relo_edge.calibration.thresholds import METHODS, Spread, collect_spreads
from relo_edge.clips.clip import find_clips
from relo_edge.errors import CalibrationError, GateError
from relo_edge.host.cpu import has_exact_int8

pytestmark = pytest.mark.slow

OUTPUTS = ["box", "score", "policy_logits", "temporal_tokens_out"]


@pytest.fixture(scope="module")
def recording(demo_bundle, tmp_path_factory):
    runs = plan_runs(find_clips([])[:2], 12)
    return record_samples(demo_bundle, runs, tmp_path_factory.mktemp("recording") / "r")


@pytest.fixture(scope="module")
def model(demo_bundle):
    return onnx.load(demo_bundle.graph("step"))


@pytest.fixture(scope="module")
def spreads(demo_bundle, model, recording):
    tensors = list_activations(model, list_products(model))
    return collect_spreads(demo_bundle.graph("step"), tensors, recording.step_feeds())


def quantize(demo_bundle, spreads, method="minmax", products=None):
    fresh = onnx.load(demo_bundle.graph("step"))
    thresholds = {name: spread.find_threshold(method) for name, spread in spreads.items()}
    return quantize_graph(fresh, products or list_products(fresh), thresholds)


@pytest.fixture(scope="module")
def quantized(demo_bundle, spreads):
    return quantize(demo_bundle, spreads)


def test_products_are_those_with_weights_unless_attention_is_asked_for(model):
    plain, all_of_them = list_products(model), list_products(model, attention=True)
    extra = set(all_of_them) - set(plain)
    assert extra == {f"block{i}/attn/{n}" for i in range(6) for n in ("logits", "mix")}
    ops = [node.op_type for node in model.graph.node]
    assert len(all_of_them) == ops.count("MatMul") + ops.count("Conv")


def test_the_graph_obeys_every_placement_rule(quantized):
    onnx.checker.check_model(quantized, full_check=True)
    assert find_violations(quantized) == []


def test_a_graph_that_breaks_a_rule_is_never_given_out(demo_bundle, spreads, monkeypatch):
    def break_rule(model, _products):
        pair = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
        pair.input[2] = "nowhere"

    monkeypatch.setattr(quantizer, "_keep_biases_apart", break_rule)
    with pytest.raises(GateError, match="step graph breaks a Q/DQ rule: .*zero point"):
        quantize(demo_bundle, spreads)


def test_every_product_is_quantized_and_nothing_else(quantized, model):
    makers = {name: node for node in quantized.graph.node for name in node.output}
    for node in quantized.graph.node:
        pair = [
            makers[n].op_type == "DequantizeLinear" if n in makers else False for n in node.input
        ]
        assert any(pair) == (node.name in list_products(model)), node.name


def test_every_constant_is_onnxruntimes_own_to_the_bit(quantized, model, spreads):
    thresholds = {name: spread.find_threshold("minmax") for name, spread in spreads.items()}
    expected = quantize_with_onnxruntime(model, thresholds)
    found = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer}
    stored = {name for name in expected if name.endswith(("_quantized", "_scale", "_zero_point"))}
    assert len(stored) == 3 * len(list_products(model)) + 2 * len(thresholds)
    for name in stored:
        assert found[name].dtype == expected[name].dtype, name
        np.testing.assert_array_equal(found[name], expected[name], name)


def quantize_with_onnxruntime(model, thresholds):
    """The constants of the same graph by onnxruntime's quantizer."""
    ranges = {n: (np.float32(-t), np.float32(t)) for n, t in thresholds.items()}
    quantizer = QDQQuantizer(
        onnx.ModelProto.FromString(model.SerializeToString()),
        per_channel=True,
        reduce_range=False,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=list_products(model),
        nodes_to_exclude=[],
        op_types_to_quantize=["MatMul", "Conv"],
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": ["MatMul", "Conv"],
        },
    )
    quantizer.quantize_model()
    return {t.name: numpy_helper.to_array(t) for t in quantizer.model.initializer()}


def test_only_the_products_named_read_what_is_dequantized(demo_bundle, spreads):
    quantized = quantize(demo_bundle, spreads, products=["block0/mlp/w3/matmul"])
    readers = [node.name for node in quantized.graph.node if "_Output" in node.input[0]]
    assert readers == [
        "block0/mlp/ffn_ln_DequantizeLinear",
        "block0/mlp/w3/matmul",
    ]
    onnx.checker.check_model(quantized, full_check=True)


def test_a_channel_of_zeros_and_a_silent_activation_have_a_scale_of_one(model, spreads):
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    weight = next(t for t in copy.graph.initializer if t.name == "block0/mlp/w3/weight")
    values = numpy_helper.to_array(weight).copy()
    values[:, 3] = 0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    quantized = quantize_graph(copy, ["block0/mlp/w3/matmul"], {"block0/mlp/ffn_ln": 0.0})
    found = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer}
    assert found["block0/mlp/ffn_ln_scale"] == 1
    assert found["block0/mlp/w3/weight_scale"][3] == 1
    assert not found["block0/mlp/w3/weight_quantized"][:, 3].any()


def test_it_is_under_30_percent_of_float32(quantized, model):
    assert quantized.ByteSize() <= 0.3 * model.ByteSize()


def test_outputs_stay_close_open_loop(quantized, model, recording):
    one, other = open_graph(model), open_graph(quantized)
    for feeds in recording.step_feeds():
        want, got = one.run(OUTPUTS, feeds), other.run(OUTPUTS, feeds)
        for a, b in zip(want[2:], got[2:], strict=True):
            assert (a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()) > 0.97


def test_onnxruntime_computes_in_int8(quantized, tmp_path):
    """A fused float Gemm would be right, and slower than float32."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(quantized.SerializeToString(), options)
    ops = [n.op_type for n in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert "Gemm" not in ops
    assert ops.count("MatMulIntegerToFloat") == 4 * 6 + 2 * 2 + 3


@pytest.mark.skipif(not has_exact_int8(), reason="OpenVINO's INT8 overflows without VNNI")
def test_openvino_runs_the_same_graph(quantized, model, recording, tmp_path):
    from relo_edge.runtimes.openvino import find_core

    onnx.save(quantized, tmp_path / "step.onnx")
    compiled = find_core().compile_model(
        tmp_path / "step.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    feeds = next(iter(recording.step_feeds()))
    logits = compiled(feeds)["policy_logits"]
    expected = open_graph(quantized).run(["policy_logits"], feeds)[0]
    assert (logits * expected).sum() / np.linalg.norm(logits) / np.linalg.norm(expected) > 0.99


def test_a_missing_range_is_named(model):
    with pytest.raises(CalibrationError, match="no range of"):
        quantize_graph(
            onnx.ModelProto.FromString(model.SerializeToString()), ["patch_embed/matmul"], {}
        )


def spoil(model, change):
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    change(copy.graph)
    return copy


def first(graph, op, where=lambda node: True):
    return next(node for node in graph.node if node.op_type == op and where(node))


def set_constant(graph, name, values):
    tensor = next(t for t in graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def give_zero_point(graph):
    set_constant(graph, first(graph, "QuantizeLinear").input[2], np.array(3, np.int8))


def make_unsigned(graph):
    set_constant(graph, first(graph, "QuantizeLinear").input[2], np.array(0, np.uint8))


def make_scale_negative(graph):
    set_constant(graph, first(graph, "QuantizeLinear").input[1], np.array(-1, np.float32))


def scale_activation_by_channel(graph):
    set_constant(graph, first(graph, "QuantizeLinear").input[1], np.ones(4, np.float32))


def weigh_by_tensor(graph):
    node = first(graph, "DequantizeLinear", lambda n: any(a.name == "axis" for a in n.attribute))
    set_constant(graph, node.input[1], np.array(1, np.float32))


def leave_one_side_float(graph):
    product = first(graph, "MatMul", lambda n: n.name == "patch_embed/matmul")
    product.input[0] = "pixels/float"


def quantize_bias(graph):
    conv = first(graph, "Conv")
    weight = conv.input[1]
    conv.input[2] = weight


def stand_between_conv_and_relu(graph):
    source = first(graph, "DequantizeLinear")
    first(graph, "Relu").input[0] = source.output[0]


def leave_quantized(graph):
    source = first(graph, "QuantizeLinear")
    graph.node.append(helper.make_node("Identity", [source.output[0]], ["idle"], "idle"))


def dequantize_for_an_add(graph):
    source = first(graph, "DequantizeLinear")
    first(graph, "Add").input[0] = source.output[0]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (give_zero_point, "check_zero_points"),
        (make_unsigned, "check_zero_points"),
        (make_scale_negative, "check_scales"),
        (scale_activation_by_channel, "check_activations"),
        (weigh_by_tensor, "check_weights"),
        (leave_one_side_float, "check_both_sides"),
        (quantize_bias, "check_biases"),
        (stand_between_conv_and_relu, "check_relu_fusion"),
        (leave_quantized, "check_pairs"),
        (dequantize_for_an_add, "check_consumers"),
    ],
)
def test_each_rule_sees_its_breach(quantized, change, rule):
    broken = find_violations(spoil(quantized, change))
    words = next(r.__doc__ for r in RULES if r.__name__ == rule)
    assert any(line.startswith(words.rstrip(".")) for line in broken), broken


def make_spread(values):
    counts, edges = np.histogram(np.abs(values), bins=1024, range=(0, np.abs(values).max()))
    signed, _ = np.histogram(values, bins=2048, range=(-edges[-1], edges[-1]))
    return Spread(counts.astype(float), edges, float(np.abs(values).max()), signed.astype(float))


def test_methods_choose_as_their_names_say():
    values = np.random.default_rng(0).normal(size=200_000)
    values[0] = 100.0
    spread = make_spread(values)
    assert spread.find_threshold("minmax") == pytest.approx(100)
    assert spread.find_threshold("percentile") == pytest.approx(
        np.percentile(np.abs(values), 99.99), rel=0.05
    )
    assert spread.find_threshold("entropy") < 10, "the outlier is clipped"
    chosen = spread.find_threshold("mse")
    errors = {t: quantization_error(values, t) for t in (chosen, 2.0, 100.0)}
    assert min(errors, key=errors.get) == chosen
    assert set(METHODS) == {"minmax", "percentile", "entropy", "mse"}


def quantization_error(values, threshold):
    step = threshold / 127
    shown = np.clip(np.round(values / step), -127, 127) * step
    return ((values - shown) ** 2).mean()


def test_a_silent_tensor_still_has_a_scale():
    assert make_spread(np.array([0.0, 1e-45])).find_threshold("minmax") > 0


def test_nan_and_emptiness_are_told(demo_bundle, recording):
    graph = demo_bundle.graph("step")
    with pytest.raises(CalibrationError, match="no samples"):
        collect_spreads(graph, ["pixels/float"], [])
    feeds = dict(next(iter(recording.step_feeds())))
    feeds["template_tokens"] = np.full_like(feeds["template_tokens"], np.nan)
    with pytest.raises(CalibrationError, match="block0/norm1: found NaN"):
        collect_spreads(graph, ["block0/norm1"], [feeds])
