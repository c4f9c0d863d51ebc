"""What the real builder makes of every variant: read off its log, without a GPU."""

import threading

import onnx
import pytest
from engines import VARIANTS, build_graph, make_engine_graph

from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import Range
from relo_edge.contract import EngineGraph, describe_graph
from relo_edge.runtimes.tensorrt.builder import Wanted, build_plan
from relo_edge.runtimes.tensorrt.library import find_library
from relo_edge.runtimes.tensorrt.xray import ATTENTION, BIAS, CONVOLUTION, PRODUCT, read_plan

LINE = (
    "Name: {name}, LayerType: {kind}, Inputs: [ {{ Name: a, Dimensions: [1,4], Datatype: Half, "
    "Format: x }}], Constants: [{constants}], Outputs: [ {{ Name: b, Dimensions: [1,4], Datatype: "
    "Half }}], TacticName: t, StreamId: 0, Metadata: [ONNX Layer: one][ONNX Layer: two]"
)
SCALE = " { Name: alpha, Dimensions: [1], Strides: [1], Datatype: Float, Format: x }"


@pytest.fixture(scope="module")
def rtx():
    return find_library("tensorrt-rtx")


def examine(rtx, name, source):
    """Build a step graph at batch 1 and look into the plan."""
    contract = describe_graph(VARIANTS[name], "step", source.state_dtype)
    rtx.journal.take_layers()
    plan = build_plan(rtx, source.path, Wanted(contract, 1), lambda: None, threading.Event())
    for spec in (*contract.inputs, *contract.outputs):
        assert spec.name.encode() in bytes(plan)
    (message,) = rtx.journal.take_layers()
    return read_plan("step", message, memoryview(plan))


PLANS = [("t256", precision) for precision in ("fp16", "int8")]
PLANS += [("t256-short", precision) for precision in ("bf16", "fp8", "fp8-attention")]
LARGE = ("b256-short", "l256-short")
LARGE_PLANS = [(name, precision) for name in LARGE for precision in ("fp16", "int8")]
LARGE_PLANS += [("sutrack-t224", "fp16"), ("sutrack-t224", "int8")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "precision"), [*PLANS, *LARGE_PLANS])
def test_every_attention_is_fused(rtx, tmp_path, name, precision):
    xray = examine(rtx, name, make_engine_graph(name, "step", precision, tmp_path))
    depth = VARIANTS[name].depth
    assert xray.fused_attentions == depth
    assert {"t256": 12, "sutrack-t224": 12}.get(name, 4) == depth
    assert xray.counts[CONVOLUTION] == 13
    attentions = [kernel for kernel in xray.kernels if kernel.kind == ATTENTION]
    told = {(kernel.reads, kernel.accumulates) for kernel in attentions}
    assert (
        told
        == {
            "fp16": {("fp16", "logits fp16, values fp16")},
            "bf16": {("bf16", "logits fp32, values fp32")},
            "int8": {("fp16", "logits fp32, values fp32")},
            "fp8": {("fp16", "logits fp32, values fp32")},
            "fp8-attention": {("fp8", "logits fp32, values fp32")},
        }[precision]
    )
    for kernel, block in zip(attentions, range(depth), strict=True):
        nodes = {f"block{block}/attn/{part}" for part in ("logits", "softmax", "mix")}
        assert nodes <= set(kernel.nodes)
    if precision == "fp16":
        # The bias of each qkv product, of the patch embed and of both merges.
        assert xray.counts[BIAS] == depth + 3


def convert_with_logits(folder, largest):
    """The demo's step graph in half, its attentions' logits having reached so far."""
    model = build_graph("demo", "step")
    ranges = {f"block{i}/attn/logits": Range(largest, 1.0) for i in range(VARIANTS["demo"].depth)}
    converted = convert_fp16(model, VARIANTS["demo"], ranges)
    onnx.save(converted.model, folder / "step.onnx")
    return EngineGraph(folder / "step.onnx", converted.state_dtype, converted.kept)


@pytest.mark.slow
def test_softmax_alone_in_float32_keeps_every_fusion(rtx, tmp_path):
    xray = examine(rtx, "demo", convert_with_logits(tmp_path, 40.0))
    assert xray.fused_attentions == VARIANTS["demo"].depth
    accumulators = {k.accumulates for k in xray.kernels if k.kind == ATTENTION}
    assert accumulators == {"logits fp32, values fp16"}


@pytest.mark.slow
def test_logits_that_half_cannot_hold_cost_the_fusions(rtx, tmp_path):
    assert examine(rtx, "demo", convert_with_logits(tmp_path, 1e5)).fused_attentions == 0


def read(*kernels, plan=b""):
    lines = [LINE.format(name=name, kind=kind, constants=scale) for name, kind, scale in kernels]
    return read_plan("step", "\n".join(["Layers:", *lines, "", "I/O Tensors:"]), plan)


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("block0/mlp/w3/matmul_U7_myl0_3", "gemm", "product"),
        ("__myl_FcAdd_myl0_1", "runtime_fusion", "product + bias"),
        ("__myl_FcAddAdd_myl0_1", "runtime_fusion", "product + bias + residual"),
        ("__myl_FcMul_myl0_1", "runtime_fusion", "product"),
        ("heads/conv1/sum_U1_myl0_2", "correlation", "convolution"),
        ("_gemm_mha_v2_myl0_17", "kgen", "fused attention"),
        ("__myl_AddReshTranReshMove_myl0_16", "kgen", "reformat"),
        ("__myl_Cast_myl0_5", "kgen", "reformat"),
        ("__myl_AddMul_myl0_5", "kgen", "other"),
        ("__myl_ReshMulMaxr_myl0_5", "kgen", "other"),
        ("unknown", "somekind", "other"),
    ],
)
def test_a_kernel_is_named_by_what_it_does(name, kind, expected):
    (kernel,) = read((name, kind, "")).kernels
    assert (kernel.kind, kernel.reads, kernel.nodes) == (expected, "fp16", ("one", "two"))


def test_synchronisation_is_no_kernel():
    assert read(("s", "signal", ""), ("w", "wait", "")).kernels == ()


def test_what_is_not_told_is_not_made_up():
    attention, product = ("_gemm_mha_v2_myl0_17", "kgen", ""), ("p_myl0_3", "gemm", SCALE)
    kernels = read(attention, product, plan=b"fmha::Ampere_hmma_fp16_traits").kernels
    assert [kernel.accumulates for kernel in kernels] == ["not told", "not told; scale in fp32"]
    both = b"fmha::Ampere_hmma_fp32_traits, fmha::Ampere_hmma_fp16_traits"
    assert read(attention, plan=both).kernels[0].accumulates == "logits fp32, values fp16"


def test_the_table_counts_equal_kernels_together():
    xray = read(("a_myl0_1", "gemm", SCALE), ("b_myl0_2", "gemm", SCALE), ("c", "kgen", ""))
    lines = [line.split() for line in xray.describe().splitlines()]
    assert lines[0] == ["step:", "3", "kernels"]
    assert ["product", "2", "fp16", "not", "told;", "scale", "in", "fp32"] in lines
    assert xray.to_dict()["counts"] == {"product": 2, "other": 1}


@pytest.mark.parametrize("precision", ["fp16", "int8", "fp8"])
def test_a_recurrent_tracker_is_a_few_kernels(rtx, tmp_path, precision):
    """The LSTM's four gates and both states are one kernel, in float32: the box is among them."""
    source = make_engine_graph("drlt-demo", "step", precision, tmp_path)
    assert source.state_dtype == "float32"
    xray = examine(rtx, "drlt-demo", source)
    gates = {f"lstm/{gate}" for gate in ("input", "forget", "cell", "output")}
    (cell,) = (kernel for kernel in xray.kernels if gates & set(kernel.nodes))
    assert gates | {"h_out", "c_out", "box"} <= set(cell.nodes)
    assert cell.reads == "fp32"
    if precision == "fp16":
        assert len(xray.kernels) == 10
    else:
        # Five convolutions; two layers of the observation and two products of the LSTM.
        assert xray.counts[CONVOLUTION] == 5
        assert xray.counts[PRODUCT] == 4
        quantized = [k.reads for k in xray.kernels if k.kind == PRODUCT]
        assert quantized == [precision] * 4
