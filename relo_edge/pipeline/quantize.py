"""A lower precision for a bundle: `relo-edge quantize` and its Python twin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.errors import InputError
from relo_edge.runtime import resolve_bundle

if TYPE_CHECKING:
    from relo_edge.calibration.candidates import Quantized

__all__ = ["quantize_bundle"]

PRECISIONS = ("int8", "fp16")


def quantize_bundle(
    bundle: str | Path | Bundle,
    precision: str,
    *,
    clips: Sequence[str] = (),
    method: str = "auto",
    attention: bool = False,
    search: bool = False,
    ranges: str | Path | None = None,
) -> Quantized:
    """Add a lower precision to a bundle, calibrated while the float32 tracker tracks.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`.
        precision: int8 or fp16.
        clips: videos or sequence folders to calibrate with; built-in ones if empty.
        method: auto, minmax, percentile, entropy or mse: how INT8 ranges are chosen.
        attention: whether attention's own two products are INT8 as well.
        search: whether to measure the cost of each part and keep the costliest in float32.
        ranges: what `train qat` wrote for these weights; taken over unchanged.

    Returns:
        The bundle with the new precision, and the verdict that it was kept by.

    Raises:
        InputError: options that exclude each other, or an unknown bundle, method or clip.
        GateError: the result is not the same tracker; the bundle is unchanged.
        MissingDependency: onnx or onnxruntime is not installed.
    """
    from relo_edge.calibration.quantize import (
        check_method,
        quantize_fp16,
        quantize_int8,
        record_clips,
    )
    from relo_edge.calibration.trained_ranges import check_ranges, quantize_with_ranges
    from relo_edge.graphs.int8_ranges import read_ranges

    _check_options(precision, method, attention or search, ranges is not None)
    check_method(method)
    opened = resolve_bundle(bundle)
    trained = read_ranges(Path(ranges)) if ranges else None
    if trained:
        check_ranges(opened, trained)  # before the long recording
    recording = record_clips(opened, clips)
    if trained:
        return quantize_with_ranges(opened, recording, trained)
    if precision == "fp16":
        return quantize_fp16(opened, recording)
    return quantize_int8(opened, recording, method, attention=attention, search=search)


def _check_options(precision: str, method: str, partial: bool, ranges: bool) -> None:
    """Refuse what would be ignored."""
    if precision not in PRECISIONS:
        raise InputError("precision", found=precision, expected=" | ".join(PRECISIONS))
    chosen = partial or method != "auto"
    if precision != "int8" and (chosen or ranges):
        raise InputError(
            "--method, --attention, --search and --ranges are for INT8",
            found=f"them with --{precision}",
            fix="leave them out, or ask for --int8",
        )
    if ranges and chosen:
        raise InputError(
            "--method, --attention and --search have no effect with --ranges",
            fix="leave them out: the file says what is quantized, and how",
        )
