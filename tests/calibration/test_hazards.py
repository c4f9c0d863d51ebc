"""What stays in float32: each rule alone, with its number in the reason."""

from fnmatch import fnmatch

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support import GRAPHS

from relo_edge.calibration.fp16_ranges import Range, find_floats
from relo_edge.calibration.hazards import KNOWN_HAZARDS, find_float32_nodes
from relo_edge.export.drlt import build_step_graph
from relo_edge.export.folding import Scope
from relo_edge.network.drlt_sizes import DRLT_VARIANTS
from relo_edge.network.fixed_weights import draw_weights


@pytest.fixture
def step(demo_bundle):
    return onnx.load(demo_bundle.graph("step"))


def find_new(model, ranges=None):
    """What is kept beyond the known hazards."""
    kept = find_float32_nodes(model, find_floats(model), ranges or {})
    known = find_float32_nodes(model, find_floats(model), {}) if ranges else {}
    return {name: reason for name, reason in kept.items() if name not in known}


def scale_constant(model, name, factor):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    values = numpy_helper.to_array(tensor) * np.float32(factor)
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def test_every_known_hazard_is_in_a_graph(demo_bundle, sutrack_bundle):
    paths = [b.graph(name) for b in (demo_bundle, sutrack_bundle) for name in GRAPHS]
    drlt = DRLT_VARIANTS["drlt-demo"]
    weights = {name: tensor.numpy() for name, tensor in draw_weights(drlt).items()}
    models = [*map(onnx.load, paths), build_step_graph(drlt, Scope(weights))]
    nodes = [node.name for model in models for node in model.graph.node]
    for pattern in KNOWN_HAZARDS:
        assert any(fnmatch(name, pattern) for name in nodes), pattern


def test_nodes_without_floats_are_not_listed(step):
    assert "history/carries" not in find_new(step)


def test_ranges_within_the_limits_keep_nothing(step):
    ranges = {name: Range(8000.0, 1.0, 8000.0) for name in find_floats(step)}
    ranges |= {f"block{i}/attn/logits": Range(32.0, 1.0) for i in range(6)}
    assert find_new(step, ranges) == {}


@pytest.mark.parametrize("largest", [8200.0, np.inf, np.nan])
def test_who_makes_and_who_reads_a_large_tensor_is_kept(step, largest):
    kept = find_new(step, {"block1/mlp/gated": Range(largest, 1.0)})
    assert set(kept) == {"block1/mlp/gated", "block1/mlp/ffn_ln"}
    assert f"block1/mlp/gated reached {largest:.3g}" in kept["block1/mlp/ffn_ln"]


def test_large_squares_keep_the_norm_alone(step):
    kept = find_new(step, {"block1/attended": Range(200.0, 90.0, 9000.0)})
    assert list(kept) == ["block1/norm2"]
    assert "mean of squares reached 9e+03" in kept["block1/norm2"]


def test_steep_logits_keep_the_softmax_alone(step):
    """With the product of the logits in float32 too, TensorRT fuses no attention."""
    kept = find_new(step, {"block3/attn/logits": Range(40.0, 5.0)})
    assert set(kept) == {"block3/attn/softmax"}
    assert "reached 40" in kept["block3/attn/softmax"]


@pytest.mark.parametrize(("factor", "reason"), [(1e-5, "of its norm"), (1e7, "half ends at 65504")])
def test_a_weight_that_half_cannot_hold_keeps_its_node(step, factor, reason):
    scale_constant(step, "block4/mlp/w3/weight", factor)
    kept = find_new(step)
    assert reason in kept["block4/mlp/w3/matmul"]
    assert "block3/mlp/w3/matmul" not in kept


def test_a_cast_takes_the_type_of_what_reads_it(step):
    kept = find_new(step, {"pixels/order": Range(1e5, 1.0), "pixels/split": Range(1e5, 1.0)})
    assert kept["pixels/float"] == "all its readers are float32"
