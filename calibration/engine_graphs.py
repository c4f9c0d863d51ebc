"""What engines of a Q/DQ precision are built from: its graphs with their float32 remainder in half.

TensorRT's networks are strongly typed: all that is float32 in a file is computed in float32. These
files are written when a bundle is quantized, so that the device needs neither onnx nor onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from relo_edge.bundle import Bundle, describe_files
from relo_edge.calibration.fp16 import Fp16Graph, convert_fp16
from relo_edge.calibration.fp16_ranges import measure_ranges
from relo_edge.calibration.recording import Recording
from relo_edge.contract import list_graphs
from relo_edge.graphs.saving import save_graph
from relo_edge.host.progress import show_progress

__all__ = ["add_engine_graphs", "halve_remainder"]


def halve_remainder(bundle: Bundle, precision: str, recording: Recording) -> dict[str, Fp16Graph]:
    """The precision's graphs with all in half that is neither quantized nor a hazard."""
    import onnx

    feeds = {"template": recording.template_feeds, "step": recording.step_feeds}
    converted = {}
    for name in list_graphs(bundle.variant):
        path = bundle.graph(name, precision)
        with show_progress(f"ranges of {path.name}", unit="samples") as advance:
            ranges = measure_ranges(path, feeds[name](), advance)
        converted[name] = convert_fp16(onnx.load(path), bundle.variant, ranges)
    return converted


def add_engine_graphs(
    candidate: Bundle, precision: str, graphs: Mapping[str, Fp16Graph], kind: str = "fp16"
) -> Bundle:
    """Write these graphs beside the candidate's own, and into its manifest."""
    entries, files = {}, dict[str, dict[str, Any]]()
    for name, graph in graphs.items():
        file = f"{name}.{precision}-{kind}.onnx"
        save_graph(graph.model, candidate.path / file)
        files |= describe_files(candidate.path, file)
        entries[name] = {
            "file": file,
            "state_dtype": graph.state_dtype,
            "kept_in_float32": dict(graph.kept),
        }
    manifest = {
        **candidate.manifest,
        "engine_graphs": {precision: entries},
        "files": {**candidate.manifest["files"], **files},
    }
    return replace(candidate, manifest=manifest)
