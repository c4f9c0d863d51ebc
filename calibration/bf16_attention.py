"""Attention in bfloat16 inside an FP16 graph: a fall-back where half overflows or loses the track.

TensorRT fuses it as it fuses attention in half. onnxruntime has no bfloat16 products on the CPU, so
that `emulate_bf16` writes a graph that rounds to the same numbers there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relo_edge.calibration.fp16_ranges import FLOAT
from relo_edge.calibration.qdq_rules import DEQUANTIZE

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["BFLOAT16", "SOFTMAX_REASON", "emulate_bf16", "list_attentions"]

BFLOAT16 = 16  # TensorProto.BFLOAT16, without importing onnx for it
SOFTMAX_REASON = "between products in bfloat16, whose steps are too coarse for logits"


def list_attentions(model: ModelProto) -> list[tuple[str, str, str]]:
    """The logits' product, the Softmax and the values' product of each attention, by node name.

    Attention whose products are quantized is not listed: Q/DQ pairs stand between the three.
    """
    makers = {tensor: node for node in model.graph.node for tensor in node.output}
    readers = {tensor: node for node in model.graph.node for tensor in node.input}
    found = []
    for node in model.graph.node:
        if node.op_type != "Softmax":
            continue
        logits, mix = makers[node.input[0]], readers[node.output[0]]
        if logits.op_type == mix.op_type == "MatMul" and not any(
            makers[tensor].op_type == DEQUANTIZE for tensor in logits.input
        ):
            found.append((logits.name, node.name, mix.name))
    return found


def emulate_bf16(model: ModelProto) -> ModelProto:
    """The graph (which is changed) with its bfloat16 products computed in float32.

    What goes in is rounded to bfloat16, and so is what comes out, but for logits that a Cast takes
    to float32 at once: a fused kernel keeps them as it accumulates them.
    """
    from onnx import helper

    graph = model.graph
    typed = {n.output[0] for n in graph.node if n.op_type == "Cast" and _read_type(n) == BFLOAT16}
    widened = {n.input[0] for n in graph.node if n.op_type == "Cast" and _read_type(n) == FLOAT}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Cast" or not typed.intersection(node.input):
            nodes.append(node)
            continue
        for index, tensor in enumerate(node.input):
            name = f"{node.name}/input{index}/float"
            nodes.append(helper.make_node("Cast", [tensor], [name], name, to=FLOAT))
            node.input[index] = name
        nodes.append(node)
        output = node.output[0]
        if output not in widened:
            node.output[0] = f"{output}/exact"
            rounded = helper.make_node("Cast", [node.output[0]], [output], output, to=BFLOAT16)
            rounded.name = f"{output}/rounded"
            nodes.append(rounded)
    del graph.node[:]
    graph.node.extend(nodes)
    return model


def _read_type(cast: NodeProto) -> int:
    return next(int(attribute.i) for attribute in cast.attribute if attribute.name == "to")
