"""What engines are built from: an INT8 graph keeps its pairs while the rest of it goes to half."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest
from engines import add_int8, quantize_products
from onnx import TensorProto, numpy_helper
from rollouts import compare_outputs, open_graph, roll_out
from small_relo import SMALL
from support import GRAPHS

from relo_edge.bundle import open_bundle, write_manifest
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import measure_ranges
from relo_edge.calibration.plan import plan_runs
from relo_edge.calibration.qdq_rules import find_violations
from relo_edge.calibration.quantize import (
    add_precision,
    quantize_fp8,
    quantize_fp16,
    quantize_int8,
)
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.calibration.recording import record_samples
from relo_edge.clips.clip import find_clips
from relo_edge.errors import BundleError
from relo_edge.measures.gates import GATES
from relo_edge.pipeline.inspection import inspect_bundle

pytestmark = pytest.mark.slow

PAIR = ("QuantizeLinear", "DequantizeLinear")


class HalvedInt8:
    """One rollout in float32, INT8, and INT8 with its remainder in half."""

    def __init__(self, bundle):
        template, path = open_graph(bundle.graph("template")), bundle.graph("step")
        self.floats = roll_out(SMALL, template, open_graph(path))
        ranges = measure_ranges(path, (row[0] for row in self.floats))
        model = onnx.load(path)
        products = list_products(model)
        largest = {n: ranges[n].largest for n in list_activations(model, products)}
        self.int8 = quantize_graph(model, products, largest)
        self.half = convert_fp16(self.int8, SMALL, ranges)
        self.rows = roll_out(SMALL, template, open_graph(self.int8))
        self.got = roll_out(SMALL, template, open_graph(self.half.model))


@pytest.fixture(scope="module")
def case(small_bundle):
    return HalvedInt8(small_bundle)


@pytest.mark.skipif(
    sys.version_info < (3, 11),
    reason="the factor was measured with onnxruntime 1.31; Python 3.10's last is 1.23, with 1.8",
)
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


def test_a_scale_that_half_cannot_hold_keeps_its_product_whole(small_bundle):
    """One silent channel: in half its scale would be off by a third, and only its own numbers."""
    model = onnx.load(small_bundle.graph("step"))
    for tensor in model.graph.initializer:
        if tensor.name == "block1/mlp/w3/weight":
            values = numpy_helper.to_array(tensor).copy()
            values[:, 5] *= 1e-5
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    half = convert_fp16(quantize_products(model), SMALL, {})
    touched = {name for name in half.kept if name.startswith("block1/mlp/")}
    assert any("half would change it" in half.kept[name] for name in touched)
    graph = half.model.graph
    product = next(node for node in graph.node if node.name == "block1/mlp/w3/matmul")
    assert product.name in half.kept
    makers = makers_of(graph)
    for name in product.input[:2]:
        assert makers[name].op_type == "DequantizeLinear"
        assert makers[name].name in half.kept
    neighbours = [n for n in graph.node if n.name == "block0/mlp/w3/matmul"]
    assert neighbours[0].name not in half.kept


@pytest.fixture(scope="module")
def recording(small_bundle, tmp_path_factory):
    runs = plan_runs(find_clips([])[:1], 6)
    return record_samples(small_bundle, runs, tmp_path_factory.mktemp("recording") / "r")


def refuse_to_record(_bundle):
    raise AssertionError("nothing needs to be recorded")


@pytest.fixture
def copy(small_bundle, tmp_path):
    shutil.copytree(small_bundle.path, tmp_path / "b")
    return open_bundle(tmp_path / "b")


def test_a_precision_that_is_there_is_taken_as_it_is(small_bundle):
    assert add_precision(small_bundle, "fp32", refuse_to_record) is small_bundle
    graphs = {name: small_bundle.engine_graph(name, "fp32") for name in GRAPHS}
    assert {name: graph.path for name, graph in graphs.items()} == {
        name: small_bundle.graph(name) for name in GRAPHS
    }
    assert {graph.state_dtype for graph in graphs.values()} == {"float32"}


def test_a_missing_precision_is_made_first(copy, recording):
    bundle = add_precision(copy, "fp16", lambda _: recording)
    assert "fp16" in open_bundle(copy.path).precisions
    assert {bundle.engine_graph(name, "fp16").state_dtype for name in GRAPHS} == {"float16"}


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_the_bundle_holds_what_its_engines_are_built_from(copy, recording, monkeypatch, precision):
    """The Q/DQ graphs with their remainder in half, found without onnx."""
    monkeypatch.setitem(GATES, precision, replace(GATES[precision], cosine=-1, relative=9))
    if precision == "int8":
        bundle = quantize_int8(copy, recording, "minmax", smooth=False).bundle
    else:
        bundle = quantize_fp8(copy, recording).bundle
    with monkeypatch.context() as without:
        for package in ("onnx", "onnxruntime", "torch"):
            without.setitem(sys.modules, package, None)
        opened = open_bundle(bundle.path)
        graphs = {name: opened.engine_graph(name, precision) for name in GRAPHS}
    assert {name: graph.path.name for name, graph in graphs.items()} == {
        name: f"{name}.{precision}-fp16.onnx" for name in GRAPHS
    }
    assert graphs["step"].state_dtype == "float16"
    assert "box" in graphs["step"].kept
    assert not find_violations(onnx.load(graphs["step"].path))
    ops = [node.op_type for node in onnx.load(graphs["step"].path).graph.node]
    assert "QuantizeLinear" in ops
    session = open_graph(graphs["template"].path)
    feeds = {
        "template": np.zeros((1, SMALL.template_size, SMALL.template_size, 3), np.uint8),
        "box": np.array([[0.25, 0.25, 0.5, 0.5]], np.float32),
    }
    assert np.isfinite(session.run(None, feeds)[0]).all()
    assert not opened.find_damage()
    rows = [line.split() for line in inspect_bundle(opened).describe().splitlines()]
    listed = [row[3] for row in rows if row[:2] == [precision, "engine"]]
    assert listed == [f"{name}.{precision}-fp16.onnx" for name in GRAPHS]


@pytest.fixture(scope="module")
def added(small_bundle, tmp_path_factory):
    """A small bundle with an INT8 graph; not to be changed."""
    folder = tmp_path_factory.mktemp("int8")
    return add_int8(open_bundle(shutil.copytree(small_bundle.path, folder / "b")))


@pytest.fixture
def int8_bundle(added, tmp_path):
    return open_bundle(shutil.copytree(added.path, tmp_path / "b"))


def test_an_int8_graph_of_an_older_version_names_the_command_that_helps(int8_bundle):
    del int8_bundle.manifest["engine_graphs"]
    with pytest.raises(BundleError, match=r"no graphs that int8 engines.*quantize .* --int8"):
        int8_bundle.engine_graph("step", "int8")


@pytest.mark.parametrize("part", ["file", "state_dtype", "kept_in_float32"])
def test_a_manifest_whose_engine_graphs_are_incomplete_is_refused(int8_bundle, part):
    del int8_bundle.manifest["engine_graphs"]["int8"]["step"][part]
    write_manifest(int8_bundle.path, int8_bundle.manifest)
    with pytest.raises(BundleError):
        open_bundle(int8_bundle.path)


def test_a_precision_made_again_leaves_no_file_of_the_first(copy, recording, monkeypatch):
    monkeypatch.setitem(GATES, "bf16", replace(GATES["bf16"], cosine=-1, relative=9))
    first = quantize_fp16(copy, recording, bf16_attention=True).bundle
    assert first.engine_graph("step", "fp16").path.name == "step.fp16-bf16.onnx"
    second = quantize_fp16(first, recording).bundle
    assert second.engine_graph("step", "fp16").path.name == "step.fp16.onnx"
    assert not list(second.path.glob("*bf16*"))
    assert not [name for name in second.manifest["files"] if "bf16" in name]
    assert not second.find_damage()
