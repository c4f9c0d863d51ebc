"""Attention in bfloat16: what engines are built from, and the graph that emulates it on a CPU."""

import numpy as np
import onnx
import pytest
from engines import quantize_products
from onnx import TensorProto
from rollouts import compare_outputs, open_graph, roll_out

from relo_edge.calibration.bf16_attention import emulate_bf16, list_attentions
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.spec import VARIANTS

DEMO = VARIANTS["demo"]
BF16, FLOAT, HALF = TensorProto.BFLOAT16, TensorProto.FLOAT, TensorProto.FLOAT16


@pytest.fixture(scope="module")
def source(demo_bundle):
    return onnx.load(demo_bundle.graph("step"))


@pytest.fixture(scope="module")
def converted(source):
    return convert_fp16(source, DEMO, {}, bf16_attention=True)


@pytest.fixture(scope="module")
def emulated(converted):
    copy = onnx.ModelProto()
    copy.CopyFrom(converted.model)
    return emulate_bf16(copy)


def find_types(model):
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def test_both_products_are_bfloat16_and_the_softmax_float32(converted):
    onnx.checker.check_model(converted.model, full_check=True)
    types = find_types(converted.model)
    for node in converted.model.graph.node:
        if node.name.endswith(("attn/logits", "attn/mix")):
            assert {types[t] for t in (*node.input, *node.output)} == {BF16}
        elif node.op_type == "Softmax":
            assert {types[t] for t in (*node.input, *node.output)} == {FLOAT}
            assert "too coarse for logits" in converted.kept[node.name]
        elif node.op_type == "MatMul":
            assert {types[t] for t in node.output} == {HALF}


@pytest.mark.slow
def test_quantized_attention_is_left_as_it_is(source):
    assert len(list_attentions(source)) == DEMO.depth
    copy = onnx.ModelProto()
    copy.CopyFrom(source)
    products = list_products(copy, attention=True)
    ranges = dict.fromkeys(list_activations(copy, products), 8.0)
    assert list_attentions(quantize_graph(copy, products, ranges)) == []
    other = onnx.ModelProto()
    other.CopyFrom(source)
    assert len(list_attentions(quantize_products(other))) == DEMO.depth


def test_the_emulation_rounds_what_goes_in_and_what_comes_out(emulated):
    onnx.checker.check_model(emulated, full_check=True)
    exposed = onnx.ModelProto()
    exposed.CopyFrom(emulated)
    names = [f"block1/attn/{name}" for name in ("mix/input0/float", "mix/input1/float", "mix")]
    names += ["block1/attn/logits/input0/float", "block1/attn/logits"]
    types = find_types(emulated)
    for name in names:
        kind = FLOAT if "input" in name or name.endswith("logits") else BF16
        assert types[name] == kind
    for name in names:
        if types[name] == FLOAT:
            exposed.graph.output.append(onnx.helper.make_tensor_value_info(name, FLOAT, None))
    session = open_graph(exposed)
    rng = np.random.default_rng(0)
    feeds = {
        i.name: rng.integers(0, 256, [1, *i.shape[1:]], np.uint8)
        if "uint8" in i.type
        else rng.normal(size=[1 if d == "batch" else d for d in i.shape]).astype(
            np.float16 if "16" in i.type else np.float32
        )
        for i in session.get_inputs()
    }
    kept = [name for name in names if types[name] == FLOAT]
    values = dict(zip(kept, session.run(kept, feeds), strict=True))
    for name, value in values.items():
        # A bfloat16 is the upper half of a float32.
        rounded = not (np.ascontiguousarray(value).view(np.uint32) & 0xFFFF).any()
        assert rounded == ("input" in name), name


@pytest.mark.slow
def test_it_tracks_as_float32_does(demo_bundle, source, converted, emulated):
    template = open_graph(demo_bundle.graph("template"))
    expected = roll_out(DEMO, template, open_graph(source))
    found = compare_outputs(expected, roll_out(DEMO, template, open_graph(emulated)))
    half = convert_fp16(source, DEMO, {}).model
    plain = compare_outputs(expected, roll_out(DEMO, template, open_graph(half)))
    assert min(values["cosine"] for values in found.values()) > 0.999
    # Eight bits of mantissa, not eleven: an emulation that rounds nothing would be as close.
    state = "temporal_tokens_out"
    assert found[state]["error"] > plain[state]["error"]
