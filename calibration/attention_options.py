"""Attention computed more exactly in a half-precision step graph, for GPUs that need it.

What a fused kernel accumulates in cannot be seen on a CPU. Where an engine is not the same tracker
on its GPU, these options are tried one after another; each costs more time than the one before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.calibration.bf16_attention import list_attentions
from relo_edge.calibration.fp16 import Fp16Graph, convert_fp16
from relo_edge.calibration.fp16_ranges import Range, measure_ranges
from relo_edge.calibration.hazards import LARGEST_HALF, STEEPEST_LOGIT
from relo_edge.calibration.recording import Recording
from relo_edge.contract import STEP, EngineGraph, list_graphs
from relo_edge.graphs.saving import save_graph
from relo_edge.host.progress import show_progress
from relo_edge.spec import TrackerVariant

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["ATTENTION_OPTIONS", "convert_attention", "write_attention_options"]

SOFTMAX, BFLOAT16, UNFUSED = "softmax in float32", "bfloat16 attention", "unfused attention"
ATTENTION_OPTIONS = (SOFTMAX, BFLOAT16, UNFUSED)
"""In the order in which they are tried."""

LOGITS = {SOFTMAX: 2 * STEEPEST_LOGIT, UNFUSED: 2 * LARGEST_HALF}
"""As far as the logits are said to reach, so that they are kept from half."""


def convert_attention(
    model: ModelProto, variant: TrackerVariant, ranges: Mapping[str, Range], option: str
) -> Fp16Graph:
    """The graph in half, its attention by one of ATTENTION_OPTIONS."""
    plain = convert_fp16(model, variant, ranges)
    if option == BFLOAT16:
        converted = convert_fp16(model, variant, ranges, bf16_attention=True)
    else:
        reached = Range(LOGITS[option], 1.0)
        logits = {name for name, _, _ in list_attentions(model)}
        tensors = [node.output[0] for node in model.graph.node if node.name in logits]
        converted = convert_fp16(model, variant, {**ranges, **dict.fromkeys(tensors, reached)})
    reason = f"{option}: without it the engine is not the same tracker on this GPU"
    kept = {name: plain.kept.get(name, reason) for name in converted.kept}
    return replace(converted, kept=kept)


def write_attention_options(
    bundle: Bundle, precision: str, recording: Recording, folder: Path
) -> Iterator[tuple[str, dict[str, EngineGraph]]]:
    """Each option's name and the graphs that its engines are built from, in `folder`."""
    import onnx

    source = bundle.graph("step", "fp32" if precision == "fp16" else precision)
    with show_progress(f"ranges of {source.name}", unit="samples") as advance:
        ranges = measure_ranges(source, recording.step_feeds(), advance)
    once = {name: bundle.engine_graph(name, precision) for name in list_graphs(bundle.variant)[:-1]}
    for option in ATTENTION_OPTIONS:
        converted = convert_attention(onnx.load(source), bundle.variant, ranges, option)
        path = folder / "step.onnx"
        save_graph(converted.model, path)
        step = EngineGraph(path, converted.state_dtype, converted.kept)
        yield option, {**once, STEP: step}
