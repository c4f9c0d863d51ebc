"""The graphs that engines of one precision are built from, made first when they are missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from relo_edge.bundle import Bundle
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import measure_ranges
from relo_edge.calibration.quantize import quantize_fp16, quantize_int8
from relo_edge.calibration.recording import Recording
from relo_edge.calibration.samples import Feeds
from relo_edge.contract import GRAPHS, EngineGraph
from relo_edge.spec import Variant

__all__ = ["add_precision", "halve_remainder", "prepare_graphs"]

Record = Callable[[Bundle], Recording]
"""Records clips, or takes what was recorded before; called only when it is needed."""


def add_precision(bundle: Bundle, precision: str, record: Record) -> Bundle:
    """The bundle with that precision's graphs in it."""
    if precision in bundle.precisions:
        return bundle
    quantize = quantize_int8 if precision == "int8" else quantize_fp16
    return quantize(bundle, record(bundle)).bundle


def prepare_graphs(
    bundle: Bundle, precision: str, record: Record, folder: Path
) -> Mapping[str, EngineGraph]:
    """What to build from. A Q/DQ graph gets its float32 remainder in half, in `folder`.

    TensorRT's networks are strongly typed: all that is float32 in the file is computed in float32.
    """
    dtype = bundle.state_dtype(precision)
    graphs = {name: bundle.graph(name, precision) for name in GRAPHS}
    if precision != "int8":
        return {name: EngineGraph(path, dtype) for name, path in graphs.items()}
    recording = record(bundle)
    feeds = {"template": recording.template_feeds, "step": recording.step_feeds}
    return {
        name: halve_remainder(bundle.variant, path, feeds[name](), folder / f"{name}.onnx")
        for name, path in graphs.items()
    }


def halve_remainder(
    variant: Variant, graph: Path, feeds: Iterable[Feeds], target: Path
) -> EngineGraph:
    """Write the graph with all in half that is neither int8 nor a hazard."""
    import onnx

    half = convert_fp16(onnx.load(graph), variant, measure_ranges(graph, feeds))
    onnx.save(half.model, target)
    return EngineGraph(target, half.state_dtype, half.kept)
