"""INT8 with the ranges that quantization-aware training found, used as they are."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from relo_edge.bundle import Bundle
from relo_edge.calibration.candidates import (
    Quantized,
    describe_source,
    judge_candidate,
    publish_best,
    write_candidate,
)
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.calibration.recording import Recording
from relo_edge.errors import CalibrationError
from relo_edge.graphs.int8_ranges import Int8Ranges

__all__ = ["TITLE", "check_ranges", "quantize_with_ranges"]

TITLE = "trained ranges"


def check_ranges(bundle: Bundle, given: Int8Ranges) -> None:
    """Refuse ranges of another network, of other weights, or of other tensors."""
    if given.variant != bundle.variant.name:
        raise _refuse(bundle, "variant", given.variant, bundle.variant.name)
    digest = bundle.manifest["checkpoint"]["sha256"]
    if digest not in given.weights.values():
        owners = " or ".join(f"{name} {known[:12]}" for name, known in given.weights.items())
        raise _refuse(bundle, "weights", owners, f"weights {digest[:12]}")
    wanted = _list_tensors(bundle, given)
    for tensor in wanted:
        if tensor not in given.ranges:
            raise _refuse(bundle, "graph", f"no range of {tensor}", "one for each tensor")
    for tensor in given.ranges:
        if tensor not in wanted:
            raise _refuse(bundle, "graph", f"a range of {tensor}", "tensors that are quantized")


def quantize_with_ranges(bundle: Bundle, recording: Recording, given: Int8Ranges) -> Quantized:
    """Add an INT8 step graph with these ranges, kept only when its gate is met."""
    import onnx

    check_ranges(bundle, given)
    model = onnx.load(bundle.graph("step"))
    products = list_products(model, attention=given.attention)
    quantized = quantize_graph(model, products, given.ranges)
    notes: dict[str, Any] = {"method": TITLE, "thresholds": dict(given.ranges)}
    notes |= describe_source(bundle, recording)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "int8"
        written = write_candidate(bundle, folder, "int8", {"step": quantized}, notes)
        judged = judge_candidate(bundle, written, "int8", TITLE, recording)
        return publish_best(bundle, [judged], recording)


def _list_tensors(bundle: Bundle, given: Int8Ranges) -> list[str]:
    import onnx

    model = onnx.load(bundle.graph("step"))
    return list_activations(model, list_products(model, attention=given.attention))


def _refuse(bundle: Bundle, what: str, found: str, expected: str) -> CalibrationError:
    return CalibrationError(
        f"ranges for {bundle.path} are of another {what}",
        found=found,
        expected=expected,
        fix="export the checkpoint that they were written with, or train again",
    )
