"""What engines are built from: an INT8 graph keeps its pairs while the rest of it goes to half."""

import shutil

import numpy as np
import onnx
import pytest
from engines import add_int8, quantize_products
from onnx import TensorProto, numpy_helper
from rollouts import compare_outputs, open_graph, roll_out

from relo_edge.bundle import open_bundle
from relo_edge.calibration.engine_graphs import add_precision, prepare_graphs
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import measure_ranges
from relo_edge.calibration.plan import plan_runs
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.calibration.recording import record_samples
from relo_edge.clips.clip import find_clips
from relo_edge.contract import GRAPHS
from relo_edge.spec import VARIANTS

DEMO = VARIANTS["demo"]
PAIR = ("QuantizeLinear", "DequantizeLinear")


class Case:
    """One rollout in float32, INT8, and INT8 with its remainder in half."""

    def __init__(self, bundle):
        template, path = open_graph(bundle.graph("template")), bundle.graph("step")
        self.floats = roll_out(DEMO, template, open_graph(path))
        ranges = measure_ranges(path, (row[0] for row in self.floats))
        model = onnx.load(path)
        products = list_products(model)
        largest = {n: ranges[n].largest for n in list_activations(model, products)}
        self.int8 = quantize_graph(model, products, largest)
        self.half = convert_fp16(self.int8, DEMO, ranges)
        self.rows = roll_out(DEMO, template, open_graph(self.int8))
        self.got = roll_out(DEMO, template, open_graph(self.half.model))


@pytest.fixture(scope="module")
def case(demo_bundle):
    return Case(demo_bundle)


def test_half_costs_little_beside_int8(case):
    """Half turns some of INT8's roundings the other way; it must not add to their number."""
    by_int8, by_both = (compare_outputs(case.floats, rows) for rows in (case.rows, case.got))
    for name in ("policy_logits", "temporal_tokens_out"):
        assert 1 - by_both[name]["cosine"] < 1.25 * (1 - by_int8[name]["cosine"])
        assert by_int8[name]["cosine"] > 0.99


def makers_of(graph):
    return {name: node for node in graph.node for name in node.output}


def test_every_pair_survives_and_no_cast_parts_it_from_its_product(case):
    before, after = case.int8.graph, case.half.model.graph
    for op in PAIR:
        names = [[n.name for n in g.node if n.op_type == op] for g in (before, after)]
        assert names[0] == names[1] != []
    makers = makers_of(after)
    for node in after.node:
        if node.name in list_products_of(before):
            assert {makers[name].op_type for name in node.input[:2]} == {"DequantizeLinear"}


def list_products_of(graph):
    makers = makers_of(graph)
    return [
        node.name
        for node in graph.node
        if node.op_type in ("MatMul", "Conv")
        and all(n in makers and makers[n].op_type == "DequantizeLinear" for n in node.input[:2])
    ]


def test_the_model_is_valid_and_its_remainder_half(case):
    onnx.checker.check_model(case.half.model, full_check=True)
    assert case.half.state_dtype == "float16"
    floats = [t for t in case.half.model.graph.initializer if t.data_type == TensorProto.FLOAT]
    assert sum(np.prod(tensor.dims) for tensor in floats) < 5000


def test_a_scale_that_half_cannot_hold_keeps_its_product_whole(demo_bundle):
    """One silent channel: in half its scale would be off by a third, and only its own numbers."""
    model = onnx.load(demo_bundle.graph("step"))
    for tensor in model.graph.initializer:
        if tensor.name == "block2/mlp/w3/weight":
            values = numpy_helper.to_array(tensor).copy()
            values[:, 5] *= 1e-5
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    half = convert_fp16(quantize_products(model), DEMO, {})
    touched = {name for name in half.kept if name.startswith("block2/mlp/")}
    assert any("half would change it" in half.kept[name] for name in touched)
    graph = half.model.graph
    product = next(node for node in graph.node if node.name == "block2/mlp/w3/matmul")
    assert product.name in half.kept
    makers = makers_of(graph)
    for name in product.input[:2]:
        assert makers[name].op_type == "DequantizeLinear"
        assert makers[name].name in half.kept
    neighbours = [n for n in graph.node if n.name == "block1/mlp/w3/matmul"]
    assert neighbours[0].name not in half.kept


@pytest.fixture(scope="module")
def recording(demo_bundle, tmp_path_factory):
    runs = plan_runs(find_clips([])[:1], 6)
    return record_samples(demo_bundle, runs, tmp_path_factory.mktemp("recording") / "r")


def refuse_to_record(_bundle):
    raise AssertionError("nothing needs to be recorded")


def test_a_precision_that_is_there_is_taken_as_it_is(demo_bundle, tmp_path):
    assert add_precision(demo_bundle, "fp32", refuse_to_record) is demo_bundle
    graphs = prepare_graphs(demo_bundle, "fp32", refuse_to_record, tmp_path)
    assert {name: graph.path for name, graph in graphs.items()} == {
        name: demo_bundle.graph(name) for name in GRAPHS
    }
    assert {graph.state_dtype for graph in graphs.values()} == {"float32"}


def test_a_missing_precision_is_made_first(demo_bundle, recording, tmp_path):
    shutil.copytree(demo_bundle.path, tmp_path / "b")
    bundle = add_precision(open_bundle(tmp_path / "b"), "fp16", lambda _: recording)
    assert "fp16" in open_bundle(tmp_path / "b").precisions
    graphs = prepare_graphs(bundle, "fp16", refuse_to_record, tmp_path)
    assert {graph.state_dtype for graph in graphs.values()} == {"float16"}


def test_int8_is_built_from_a_copy_whose_remainder_is_half(demo_bundle, recording, tmp_path):
    shutil.copytree(demo_bundle.path, tmp_path / "b")
    bundle = add_int8(open_bundle(tmp_path / "b"))
    graphs = prepare_graphs(bundle, "int8", lambda _: recording, tmp_path)
    assert {graph.path.parent for graph in graphs.values()} == {tmp_path}
    assert graphs["step"].state_dtype == "float16"
    assert "box" in graphs["step"].kept
    ops = [node.op_type for node in onnx.load(graphs["step"].path).graph.node]
    assert "QuantizeLinear" in ops
    session = open_graph(graphs["template"].path)
    feeds = {
        "template": np.zeros((1, DEMO.template_size, DEMO.template_size, 3), np.uint8),
        "box": np.array([[0.25, 0.25, 0.5, 0.5]], np.float32),
    }
    assert np.isfinite(session.run(None, feeds)[0]).all()
    assert not bundle.find_damage()
