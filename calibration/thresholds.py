"""Thresholds of activations: histograms over a stream of samples, and where to clip them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.calibration.entropy import find_reach
from relo_edge.calibration.samples import Feeds
from relo_edge.errors import CalibrationError
from relo_edge.geometry import Floats
from relo_edge.graphs.sessions import open_exposed
from relo_edge.host.telemetry import import_silenced

__all__ = ["METHODS", "Spread", "collect_peaks", "collect_spreads"]

BINS = 2048
LEVELS = 127  # symmetric int8 uses -127 … 127
PERCENTILE = 99.99


@dataclass(frozen=True)
class Spread:
    """One tensor's values over all samples, as a histogram of their magnitudes."""

    counts: Floats
    edges: Floats
    largest: float
    signed: Floats
    """The counts before magnitudes were taken: negative values' bins, then positive ones'."""

    def find_threshold(self, method: str) -> float:
        """The magnitude that becomes 127."""
        return max(METHODS[method](self), float(np.finfo(np.float32).tiny))


def collect_spreads(
    graph: Path,
    tensors: Sequence[str],
    feeds: Iterable[Feeds],
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Spread]:
    """Run the float graph over the samples, keeping only histograms."""
    calibrate = import_silenced("onnxruntime.quantization.calibrate")
    session = open_exposed(graph, tensors)
    collector = calibrate.HistogramCollector("entropy", True, BINS, LEVELS + 1, PERCENTILE, "same")
    for sample in feeds:
        values = session.run(list(tensors), sample)
        _check_finite(tensors, values)
        with contextlib.redirect_stdout(io.StringIO()):
            collector.collect({n: [v] for n, v in zip(tensors, values, strict=True)})
        advance()
    if not collector.histogram_dict:
        raise CalibrationError("calibration", found="no samples", expected="1 or more")
    return {name: _fold_histogram(*found[:4]) for name, found in collector.histogram_dict.items()}


def collect_peaks(
    graph: Path,
    tensors: Sequence[str],
    feeds: Iterable[Feeds],
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Floats]:
    """The largest magnitude of every channel (last axis) of each tensor, over the samples."""
    session, peaks = open_exposed(graph, tensors), dict[str, Floats]()
    for sample in feeds:
        values = session.run(list(tensors), sample)
        _check_finite(tensors, values)
        for name, value in zip(tensors, values, strict=True):
            reached = np.abs(value).reshape(-1, value.shape[-1]).max(axis=0).astype(np.float64)
            peaks[name] = np.maximum(peaks.get(name, reached), reached)
        advance()
    return peaks


def _check_finite(tensors: Sequence[str], values: Sequence[NDArray[np.float32]]) -> None:
    for name, value in zip(tensors, values, strict=True):
        if not np.isfinite(value).all():
            raise CalibrationError(
                f"activation {name}", found="NaN or infinity", expected="numbers"
            )


def _fold_histogram(counts: Floats, edges: Floats, least: float, most: float) -> Spread:
    """The collector's bins are symmetric about zero: add each to its mirror image."""
    half = len(counts) // 2
    signed = np.asarray(counts, np.float64)
    folded = signed[-half:] + signed[:half][::-1]
    largest = max(abs(float(least)), abs(float(most)))
    return Spread(folded, np.asarray(edges[-half - 1 :]), largest, signed)


def _cover_all(spread: Spread) -> float:
    return spread.largest


def _cover_percentile(spread: Spread) -> float:
    share = np.cumsum(spread.counts) / spread.counts.sum()
    return float(spread.edges[1 + np.searchsorted(share, PERCENTILE / 100)])


def _minimise_error(spread: Spread) -> float:
    """The threshold with the least squared error of rounding within it and clipping beyond."""
    middles = (spread.edges[:-1] + spread.edges[1:]) / 2
    candidates = spread.edges[1:][len(middles) // 32 :: 8]
    errors = []
    for threshold in candidates:
        step = threshold / LEVELS
        shown = np.minimum(np.round(middles / step), LEVELS) * step
        errors.append((spread.counts * (middles - shown) ** 2).sum())
    return float(candidates[int(np.argmin(errors))])


def _follow_entropy(spread: Spread) -> float:
    reach = min(find_reach(spread.signed) + 1, len(spread.counts))
    return min(float(spread.edges[reach]), spread.largest)


METHODS: dict[str, Callable[[Spread], float]] = {
    "minmax": _cover_all,
    "percentile": _cover_percentile,
    "entropy": _follow_entropy,
    "mse": _minimise_error,
}
