"""A lower precision for a bundle: `relo-edge quantize` and its Python twin."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle
from relo_edge.errors import InputError
from relo_edge.host.progress import count_stages
from relo_edge.runtime import resolve_bundle

if TYPE_CHECKING:
    from relo_edge.calibration.candidates import Quantized

__all__ = ["quantize_bundle"]

PRECISIONS = ("int8", "fp8", "fp16")


def quantize_bundle(
    bundle: str | Path | Bundle,
    precision: str,
    *,
    clips: Sequence[str] = (),
    method: str = "auto",
    attention: bool = False,
    search: bool = False,
    ranges: str | Path | None = None,
    bf16_attention: bool = False,
    quick: bool = False,
) -> Quantized:
    """Add a lower precision to a bundle, calibrated while the float32 tracker tracks.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`.
        precision: int8, fp8 or fp16.
        clips: videos or sequence folders to calibrate with; built-in ones if empty.
        method: auto, minmax, percentile, entropy or mse: how INT8 ranges are chosen.
        attention: whether attention's own two products are INT8 or FP8 as well.
        search: whether to measure the cost of each part and keep the costliest in float32.
        ranges: what `train qat` wrote for these weights; taken over unchanged.
        bf16_attention: whether an FP16 engine's attention is bfloat16, as a fall-back.
        quick: whether to record 60 frames in place of 200, and to try one INT8 method alone.

    Returns:
        The bundle with the new precision, and the verdict that it was kept by.

    Raises:
        InputError: options that exclude each other, or an unknown bundle, method or clip.
        GateError: the result is not the same tracker; the bundle is unchanged.
        MissingDependency: onnx or onnxruntime is not installed.
    """
    from relo_edge.calibration import quantize
    from relo_edge.calibration.plan import FRAMES
    from relo_edge.calibration.trained_ranges import check_ranges, quantize_with_ranges
    from relo_edge.graphs.int8_ranges import read_ranges

    _check_options(precision, method, attention, search, ranges is not None, bf16_attention)
    quantize.check_method(method)
    quantize.require_packages()
    opened = resolve_bundle(bundle)
    trained = read_ranges(Path(ranges)) if ranges else None
    if trained:
        check_ranges(opened, trained)  # before the long recording
    frames = quantize.QUICK_FRAMES if quick else FRAMES
    if quick and method == "auto":
        method = quantize.QUICK_METHOD
    how = {"search": search, "smooth": not quick}
    stages = quantize.plan_stages(opened, precision, method, **how, trained=trained is not None)
    with count_stages(stages):
        recording = quantize.record_clips(opened, clips, frames)
        if trained:
            return quantize_with_ranges(opened, recording, trained)
        if precision == "fp16":
            return quantize.quantize_fp16(opened, recording, bf16_attention=bf16_attention)
        if precision == "fp8":
            return quantize.quantize_fp8(opened, recording, attention=attention)
        return quantize.quantize_int8(opened, recording, method, attention=attention, **how)


def _check_options(
    precision: str, method: str, attention: bool, search: bool, ranges: bool, bf16_attention: bool
) -> None:
    """Refuse what would be ignored."""
    if precision not in PRECISIONS:
        raise InputError("precision", found=precision, expected=" | ".join(PRECISIONS))
    chosen = search or method != "auto"
    if precision != "int8" and (chosen or ranges):
        raise InputError(
            "--method, --search and --ranges are for INT8",
            found=f"them with --{precision}",
            fix="leave them out, or ask for --int8",
        )
    if precision == "fp16" and attention:
        raise InputError(
            "--attention is for INT8 and FP8",
            found="it with --fp16",
            fix="leave it out: FP16 attention is always half",
        )
    if precision != "fp16" and bf16_attention:
        raise InputError(
            "--bf16-attention is for FP16",
            found=f"it with --{precision}",
            fix="leave it out, or ask for --fp16",
        )
    if ranges and (chosen or attention):
        raise InputError(
            "--method, --attention and --search have no effect with --ranges",
            fix="leave them out: the file says what is quantized, and how",
        )
