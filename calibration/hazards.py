"""Which nodes of a half-precision graph stay in float32, each with its reason.

LayerNormalization and Softmax may run in half. The statistics of the first are float32 all the
same: stash_type is 1, TensorRT's compute precision is float32 by default and strong typing forbids
changing it (NvInfer.h, INormalizationLayer), onnxruntime's kernels sum in float32. The exception is
measured for: before its pull request 28682, onnxruntime-CUDA fused Add and LayerNormalization
into a kernel that sums x²/n in half.

Where attention's logits are steep, Softmax alone is float32 and both products stay half. TensorRT
then still fuses the three into one kernel, whose logits accumulate in float32; with the logits'
product in float32 it fuses none. What a fused kernel accumulates in half cannot be seen on a CPU:
the parity gate on the device decides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatch
from typing import TYPE_CHECKING

import numpy as np

from relo_edge.calibration.fp16_ranges import FLOAT, Range
from relo_edge.calibration.qdq_rules import DEQUANTIZE, QUANTIZE

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["KNOWN_HAZARDS", "find_float32_nodes"]

PAIRS = (QUANTIZE, DEQUANTIZE)

LARGEST_HALF = 65504.0

HEADROOM = 8
"""How far a tensor may exceed its recorded range: on other clips, or in sums kept in half."""

STEEPEST_LOGIT = 32.0
"""Up to here rounding to half changes no attention weight by more than 1 %."""

WEIGHT_LOSS = 1e-3
"""The share of its norm that a weight may lose; one without tiny numbers loses 0.0002."""

SCALE_LOSS = 1 / 254
"""The largest relative error of a Q/DQ scale: half a step at the 127th step."""

INTERFACE = "float32 at the interface"
POSITION = "a position of up to 16 cells has 11 bits in half: it would move by 1/16 pixel"
ANSWER = "entries of this state are the box: in half it would move by half a pixel in 1000"
KNOWN_HAZARDS = {
    "box": POSITION,
    "centre/scores": "clips at 1 - 0.0001, which in half is 1",
    "centre/sigmoid": "makes what is clipped at 1 - 0.0001, which in half is 1",
    "choice/*": f"{POSITION}, and cells of nearly the same windowed logit would tie",
    "c_out": ANSWER,
    "h_out": ANSWER,
    "history/known": INTERFACE,
    "lstm/*": ANSWER,
    "location/*": ANSWER,
    "policy_logits": INTERFACE,
    "role*": "the box's edges are compared with pixels: above 64, half's steps are 1/16",
    "score": INTERFACE,
    "score_map": INTERFACE,
    "size/map": "clips at 1 - 0.0001, which in half is 1",
    "size/sigmoid": "makes what is clipped at 1 - 0.0001, which in half is 1",
    "template_tokens": INTERFACE,
    "temporal/batch": INTERFACE,
    "text/shape": INTERFACE,
}
"""By pattern of the nodes' names, which are the same in every variant."""


def find_float32_nodes(
    model: ModelProto, floats: Collection[str], ranges: Mapping[str, Range]
) -> dict[str, str]:
    """The nodes to keep in float32, and why; `floats` are the graph's float tensors."""
    large, steep = dict(_find_large_tensors(ranges)), dict(_find_steep_softmaxes(model, ranges))
    lossy = dict(_find_lossy_weights(model)) | dict(_find_lossy_scales(model))
    known, kept = set(floats), {}
    for node in model.graph.node:
        reasons = [large[t] for t in (*node.output, *node.input) if t in large]
        reasons += [steep[node.name]] if node.name in steep else []
        reasons += [lossy[t] for t in node.input if t in lossy]
        reasons += _judge_norm(node, ranges)
        if known.intersection((*node.input, *node.output)):
            reasons += [KNOWN_HAZARDS[p] for p in KNOWN_HAZARDS if fnmatch(node.name, p)]
        if reasons:
            kept[node.name] = reasons[0]
    kept |= _keep_pairs_whole(model, kept)
    return kept | _follow_readers(model, kept)


def _find_large_tensors(ranges: Mapping[str, Range]) -> Iterator[tuple[str, str]]:
    """Tensors beyond half's range: the nodes that write and read one both need float32."""
    for tensor, seen in ranges.items():
        if not _fits(seen.largest):
            yield tensor, _explain_limit(tensor, seen.largest)


def _find_steep_softmaxes(
    model: ModelProto, ranges: Mapping[str, Range]
) -> Iterator[tuple[str, str]]:
    """Each Softmax whose logits are so large that half's steps change its output."""
    for node in model.graph.node:
        seen = ranges.get(node.input[0]) if node.op_type == "Softmax" else None
        if seen and seen.largest > STEEPEST_LOGIT:
            steps = f"above {STEEPEST_LOGIT:g} half's steps change a weight by over 1 %"
            yield node.name, f"{node.input[0]} reached {seen.largest:.3g}, and {steps}"


def _find_lossy_weights(model: ModelProto) -> Iterator[tuple[str, str]]:
    """Constants with values too small or too large for half."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.data_type != FLOAT:
            continue
        weight = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            error = np.linalg.norm(weight - weight.astype(np.float16))
        norm = np.linalg.norm(weight)
        if not np.isfinite(error):
            yield tensor.name, _explain_limit(tensor.name, float(np.abs(weight).max()))
        elif error > WEIGHT_LOSS * norm:
            yield tensor.name, f"{tensor.name} in half would lose {error / norm:.2g} of its norm"


def _find_lossy_scales(model: ModelProto) -> Iterator[tuple[str, str]]:
    """Q/DQ scales that half would round too coarsely, in any channel."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    scales = {node.input[1] for node in model.graph.node if node.op_type in PAIRS}
    for name in scales & set(constants):
        scale = numpy_helper.to_array(constants[name])
        loss = float(np.abs(scale.astype(np.float16) / scale - 1).max())
        if not loss <= SCALE_LOSS:
            yield name, f"{name} reaches {scale.min():.2g}, and half would change it by {loss:.1%}"


def _keep_pairs_whole(model: ModelProto, kept: Mapping[str, str]) -> dict[str, str]:
    """Keep a product with its inputs' DequantizeLinear: a Cast between would hide the pair."""
    makers = {node.output[0]: node for node in model.graph.node if node.op_type == DEQUANTIZE}
    groups = [
        {node.name, *(makers[tensor].name for tensor in node.input if tensor in makers)}
        for node in model.graph.node
        if any(tensor in makers for tensor in node.input)
    ]
    added: dict[str, str] = {}
    while True:
        known = {**kept, **added}
        split = [group for group in groups if group & set(known) and not group <= set(known)]
        if not split:
            return added
        for group in split:
            reason = known[next(name for name in sorted(group) if name in known)]
            added |= dict.fromkeys(group - set(known), reason)


def _judge_norm(node: NodeProto, ranges: Mapping[str, Range]) -> list[str]:
    """Why a LayerNormalization's squares might not fit into half."""
    seen = ranges.get(node.input[0]) if node.op_type == "LayerNormalization" else None
    if seen is None or seen.row_square is None or _fits(seen.row_square):
        return []
    return [_explain_limit(f"{node.input[0]}'s mean of squares", seen.row_square)]


def _follow_readers(model: ModelProto, kept: Mapping[str, str]) -> dict[str, str]:
    """Casts of integers that only float32 nodes read: half would need a second Cast."""
    readers: dict[str, list[str]] = {}
    for node in model.graph.node:
        for tensor in node.input:
            readers.setdefault(tensor, []).append(node.name)
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.name not in kept]
    return {
        node.name: "all its readers are float32"
        for node in casts
        if all(name in kept for name in readers[node.output[0]])
    }


def _fits(value: float) -> bool:
    """Whether half can hold it with headroom; false for NaN."""
    return value * HEADROOM <= LARGEST_HALF


def _explain_limit(what: str, reached: float) -> str:
    return f"{what} reached {reached:.3g}, and half ends at {LARGEST_HALF:g} (headroom {HEADROOM})"
