"""Folding norms changes no number that matters, and nothing that others share."""

import numpy as np
import onnx
from rollouts import compare_outputs, open_graph, roll_out

from relo_edge.calibration.norms import fold_norms


def test_folding_is_exact_in_float32(small_bundle):
    models = {name: onnx.load(small_bundle.graph(name)) for name in ("template", "step")}
    expected = roll_out(small_bundle.variant, *map(open_graph, models.values()), frames=3)
    for model in models.values():
        fold_norms(model)
        onnx.checker.check_model(model, full_check=True)
    got = roll_out(small_bundle.variant, *map(open_graph, models.values()), frames=3)
    for name, found in compare_outputs(expected, got).items():
        assert found["relative"] <= 2e-5, name


def test_every_norm_before_a_product_is_folded(small_bundle):
    model = onnx.load(small_bundle.graph("step"))
    changed = fold_norms(model)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    norms = [node for node in model.graph.node if node.op_type == "LayerNormalization"]
    left = [node.name for node in norms if node.output[0] not in changed]
    assert left == ["fc_norm"]  # a convolution reads it, and by way of a transpose
    for node in norms:
        if node.name not in left:
            assert (constants[node.input[1]] == 1).all()
            assert (constants[node.input[2]] == 0).all()


def make_model(readers):
    """A norm and two products that share their weight and bias."""
    make = onnx.helper.make_node
    nodes = [make("LayerNormalization", ["x", "scale", "shift"], ["normed"], "norm")]
    for name, source in readers.items():
        nodes.append(make("MatMul", [source, "weight"], [f"{name}/product"], f"{name}/product"))
        nodes.append(make("Add", [f"{name}/product", "bias"], [name], name))
    rng = np.random.default_rng(0)
    sizes = {"scale": (4,), "shift": (4,), "weight": (4, 3), "bias": (3,)}
    constants = [
        onnx.numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name)
        for name, size in sizes.items()
    ]
    feeds = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2, 4])]
    ends = [onnx.helper.make_empty_tensor_value_info(name) for name in readers]
    graph = onnx.helper.make_graph(nodes, "g", feeds, ends, constants)
    opsets = [onnx.helper.make_opsetid("", 20)]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)


def run_model(model):
    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)
    return open_graph(model).run(None, {"x": x})


def test_a_weight_that_another_product_reads_is_left_alone():
    model = make_model({"one": "normed", "other": "x"})
    expected = run_model(model)
    assert fold_norms(model) == ["normed"]
    for one, other in zip(expected, run_model(model), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_a_norm_with_two_readers_is_left_alone():
    assert fold_norms(make_model({"one": "normed", "other": "normed"})) == []
