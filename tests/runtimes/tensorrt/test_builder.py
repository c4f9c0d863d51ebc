"""Real parsing and building with TensorRT for RTX, which needs no GPU for it."""

import threading
from dataclasses import replace

import onnx
import pytest
from engines import VARIANTS, build_graph, make_engine_graph
from onnx import TensorProto, helper
from support import GRAPHS

from relo_edge.contract import describe_graph
from relo_edge.errors import BundleError, InputError, ReloError, RuntimeUnavailable
from relo_edge.runtimes.tensorrt.builder import (
    Wanted,
    build_plan,
    create_builder,
    make_profile,
    name_dtype,
    parse_graph,
)
from relo_edge.runtimes.tensorrt.library import find_library

BATCH = 4


@pytest.fixture(scope="module")
def rtx():
    return find_library("tensorrt-rtx")


def build(rtx, path, contract, batch=BATCH, advance=lambda: None, pressed=None):
    wanted = Wanted(contract, batch)
    return build_plan(rtx, path, wanted, advance, pressed or threading.Event())


def read_ends(rtx, network):
    """Name, type and shape of all that goes in and comes out, from TensorRT's own network."""
    ends = [network.get_input(i) for i in range(network.num_inputs)]
    ends += [network.get_output(i) for i in range(network.num_outputs)]
    return [(end.name, name_dtype(rtx, end.dtype), tuple(end.shape)) for end in ends]


def list_ends(contract):
    """The same as the contract has them."""
    return [
        (spec.name, spec.dtype, tuple(-1 if size == "batch" else size for size in spec.shape))
        for spec in (*contract.inputs, *contract.outputs)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision"), [("t256", "fp16"), ("t256", "int8"), ("b256", "fp32"), ("l256", "fp32")]
)
def test_a_large_step_parses_whole(rtx, tmp_path, name, precision):
    source = make_engine_graph(name, "step", precision, tmp_path)
    network = parse_graph(rtx, rtx.trt.Builder(rtx.logger), source.path)
    contract = describe_graph(VARIANTS[name], "step", source.state_dtype)
    assert read_ends(rtx, network) == list_ends(contract)


# The large variants by four of their blocks; test_xray.py builds steps in lower precisions.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "precision", "graph"),
    [
        *(("demo", precision, graph) for precision in ("fp32", "fp16", "int8") for graph in GRAPHS),
        ("t256", "fp32", "step"),
        *(("t256", precision, "template") for precision in ("fp32", "fp16", "int8")),
        *((name, "fp32", graph) for name in ("b256-short", "l256-short") for graph in GRAPHS),
    ],
)
def test_every_graph_parses_and_builds(rtx, tmp_path, name, graph, precision):
    source = make_engine_graph(name, graph, precision, tmp_path)
    contract = describe_graph(VARIANTS[name], graph, source.state_dtype)
    network = parse_graph(rtx, rtx.trt.Builder(rtx.logger), source.path)
    assert read_ends(rtx, network) == list_ends(contract)
    plan = bytes(build(rtx, source.path, contract))
    assert len(plan) > 100_000
    for spec in (*contract.inputs, *contract.outputs):
        assert spec.name.encode() in plan


@pytest.mark.parametrize("graph", GRAPHS)
def test_tensorrt_takes_the_profile_as_it_is(rtx, graph):
    contract = describe_graph(VARIANTS["demo"], graph)
    profile = rtx.trt.Builder(rtx.logger).create_optimization_profile()
    shapes = make_profile(contract, BATCH)
    for name, (least, best, most) in shapes.items():
        profile.set_shape(name, least, best, most)
        assert [tuple(shape) for shape in profile.get_shape(name)] == [least, best, most]
        assert (least[0], best[0], most[0]) == (BATCH, BATCH, BATCH)
    assert set(shapes) == {s.name for s in contract.inputs} - {"window"}
    ranged = make_profile(contract, BATCH, 1)
    assert {tuple(shape[0] for shape in found) for found in ranged.values()} == {(1, BATCH, BATCH)}


@pytest.mark.slow
def test_progress_is_told_step_by_step(rtx, tmp_path):
    source = make_engine_graph("demo", "template", "fp32", tmp_path)
    steps = []
    build(
        rtx, source.path, describe_graph(VARIANTS["demo"], "template"), 1, lambda: steps.append(1)
    )
    assert len(steps) > 20


def test_ctrl_c_breaks_a_build_off(rtx, tmp_path):
    source = make_engine_graph("demo", "template", "fp32", tmp_path)
    pressed, steps = threading.Event(), []

    def press():
        steps.append(1)
        if len(steps) == 5:
            pressed.set()

    contract = describe_graph(VARIANTS["demo"], "template")
    with pytest.raises(KeyboardInterrupt):
        build(rtx, source.path, contract, 1, press, pressed)
    assert len(steps) < 20


def save_changed(folder, change):
    model = build_graph("demo", "template")
    change(model.graph)
    onnx.save(model, folder / "broken.onnx")
    return folder / "broken.onnx"


def find_node(graph, name):
    return next(node for node in graph.node if node.name == name)


def drop_weight(graph):
    find_node(graph, "merge1/matmul").input[1] = "nowhere"


def use_unknown_operator(graph):
    find_node(graph, "merge1").op_type = "Gadget"


def reshape_bytes(graph):
    """What RELO's own graphs did before they were tried here."""
    reader, cast = find_node(graph, "pixels/split"), find_node(graph, "pixels/float")
    reader.input[0] = cast.input[0]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_weight, "node merge1/matmul .MatMul.: .*input was not registered"),
        (use_unknown_operator, "node merge1 .Gadget"),
        (reshape_bytes, "node pixels/split .Reshape.: .*UInt8"),
    ],
)
def test_a_broken_graph_gets_the_parsers_reason(rtx, tmp_path, change, reason):
    path = save_changed(tmp_path, change)
    with pytest.raises(BundleError, match=reason) as refused:
        build(rtx, path, describe_graph(VARIANTS["demo"], "template"))
    assert "cannot parse" in str(refused.value)
    assert "cudaError" not in str(refused.value)


def test_a_file_that_is_no_graph(rtx, tmp_path):
    (tmp_path / "noise.onnx").write_bytes(b"no graph")
    with pytest.raises(BundleError, match=r"cannot parse .*noise.onnx: found \w"):
        build(rtx, tmp_path / "noise.onnx", describe_graph(VARIANTS["demo"], "template"))


def test_a_graph_of_another_contract_is_refused_before_it_is_built(rtx, tmp_path):
    source = make_engine_graph("demo", "template", "fp32", tmp_path)
    with pytest.raises(
        BundleError, match=r"not have the tensors of its contract: found .*expected .*128, 128"
    ):
        build(rtx, source.path, describe_graph(VARIANTS["t256"], "template"))


def test_what_parses_and_cannot_be_built_is_told(rtx, tmp_path):
    """That two shapes do not meet shows only once the profile gives the batch a number."""

    def fold_batch(graph):
        last = find_node(graph, "template_tokens")
        last.output[0] = "whole"
        sizes = helper.make_tensor("sizes", TensorProto.INT64, [3], [-1, 63, 192])
        graph.initializer.append(sizes)
        graph.node.append(
            helper.make_node("Reshape", ["whole", "sizes"], ["template_tokens"], "odd")
        )
        graph.output[0].type.tensor_type.shape.dim[1].dim_value = 63

    path = save_changed(tmp_path, fold_batch)
    contract = describe_graph(VARIANTS["demo"], "template")
    tokens = replace(contract.outputs[0], shape=("batch", 63, 192))
    with pytest.raises(ReloError, match=r"cannot build .*broken.onnx: found .*odd"):
        build(rtx, path, replace(contract, outputs=(tokens,)), batch=1)


def test_rtx_engines_are_compatible_by_themselves(rtx):
    config = rtx.trt.Builder(rtx.logger).create_builder_config()
    with pytest.raises(InputError, match="every RTX card"):
        rtx.set_compatible(config, "hardware")


def test_a_builder_that_is_not_given_ends_in_one_line(rtx):
    class Without:
        @staticmethod
        def Builder(_logger):
            raise TypeError("pybind11::init(): factory function returned nullptr")

    rtx.journal.take()
    rtx.journal.note("CUDA initialization failure with error: 35")
    with pytest.raises(RuntimeUnavailable, match="cannot build here: found CUDA init.*error: 35"):
        create_builder(replace(rtx, trt=Without))


class Noted:
    """A builder's configuration that notes for which GPUs it is told to build."""

    num_compute_capabilities = 0

    def set_compute_capability(self, capability, index):
        self.told = capability.name, index


@pytest.mark.parametrize(
    ("flavour", "capability", "told"),
    [
        ("tensorrt-rtx", (7, 5), ("SM75", 0)),
        ("tensorrt-rtx", (8, 9), None),
        ("tensorrt-rtx", None, None),
        ("tensorrt", (7, 5), None),
    ],
)
def test_a_turing_card_gets_an_engine_of_its_own(rtx, flavour, capability, told):
    config = Noted()
    replace(rtx, flavour=flavour).bind_to(config, capability)
    assert getattr(config, "told", None) == told


def test_rtx_builds_for_turing(rtx, tmp_path):
    source = make_engine_graph("demo", "template", "fp16", tmp_path)
    contract = describe_graph(VARIANTS["demo"], "template", source.state_dtype)
    wanted = Wanted(contract, capability=(7, 5))
    assert build_plan(rtx, source.path, wanted, lambda: None, threading.Event())
