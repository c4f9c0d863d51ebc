"""Attention computed more exactly: what each option keeps from half."""

import onnx
import pytest
from engines import build_graph, draw_feeds, quantize_products

from relo_edge.calibration.attention_options import ATTENTION_OPTIONS, convert_attention
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import Range
from relo_edge.contract import describe_graph
from relo_edge.spec import VARIANTS

DEMO = VARIANTS["demo"]
HALF, BFLOAT16 = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
MILD = {f"block{i}/attn/logits": Range(4.0, 1.0) for i in range(DEMO.depth)}


def convert(option, model=None):
    return convert_attention(model or build_graph("demo", "step"), DEMO, MILD, option)


def list_kept(converted, part):
    return [name for name in converted.kept if name.endswith(f"attn/{part}")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "parts"),
    [
        ("softmax in float32", {"softmax"}),
        ("bfloat16 attention", {"softmax"}),
        ("unfused attention", {"softmax", "logits"}),
    ],
)
def test_an_option_keeps_its_part_of_every_attention(option, parts):
    plain = convert_fp16(build_graph("demo", "step"), DEMO, MILD)
    converted = convert(option)
    for part in ("logits", "softmax"):
        assert not list_kept(plain, part)
        assert len(list_kept(converted, part)) == (DEMO.depth if part in parts else 0)
    reasons = {converted.kept[name] for name in list_kept(converted, "softmax")}
    assert reasons == {f"{option}: without it the engine is not the same tracker on this GPU"}
    assert plain.kept.items() <= converted.kept.items()


def test_bfloat16_is_in_the_products_alone():
    nodes = convert("bfloat16 attention").model.graph.node
    casts = [n for n in nodes if n.op_type == "Cast" and n.attribute[0].i == BFLOAT16]
    assert len(casts) >= 3 * DEMO.depth


@pytest.mark.slow
@pytest.mark.parametrize("option", ATTENTION_OPTIONS)
def test_the_remainder_of_a_quantized_graph_takes_them_too(option):
    model = quantize_products(build_graph("demo", "step"))
    assert len(list_kept(convert(option, model), "softmax")) == DEMO.depth


@pytest.mark.slow
@pytest.mark.parametrize("option", [o for o in ATTENTION_OPTIONS if "bfloat16" not in o])
def test_it_still_computes_the_same(option):
    import numpy as np
    import onnxruntime

    model = build_graph("demo", "step")
    feeds = draw_feeds(DEMO, describe_graph(DEMO, "step"))
    answers = []
    for one in (model, convert(option).model):
        session = onnxruntime.InferenceSession(one.SerializeToString())
        types = {value.name: value.type for value in session.get_inputs()}
        halved = {
            name: array.astype(np.float16) if types[name] == "tensor(float16)" else array
            for name, array in feeds.items()
        }
        answers.append(session.run(["policy_logits"], halved)[0])
    np.testing.assert_allclose(answers[1], answers[0], atol=0.05 * np.abs(answers[0]).max())
