"""The clipping that loses least information: what onnxruntime searches for, by whole arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relo_edge.geometry import Floats

__all__ = ["find_reach"]

LEVELS = 128
"""Levels of both signs together, as in onnxruntime's search."""
LITTLE = 1e-4
"""What an empty bin counts, so that no logarithm is infinite."""


def find_reach(counts: Floats) -> int:
    """How many bins on each side of zero to keep, of a histogram that is symmetric about zero.

    Values beyond are counted in the outermost bins kept; of all reaches, the one whose quantized
    distribution diverges least (Kullback-Leibler) from the values' own is the best.
    """
    half = len(counts) // 2
    below = np.concatenate([[0.0], np.cumsum(counts)])
    reaches = range(LEVELS // 2, half + 1)
    return reaches[int(np.argmin([_diverge(counts, below, half, reach) for reach in reaches]))]


def _diverge(counts: Floats, below: Floats, half: int, reach: int) -> float:
    start, end = half - reach, min(half + reach + 1, len(counts))
    kept = counts[start:end]
    clipped = kept.copy()
    clipped[0] += below[start]
    clipped[-1] += below[-1] - below[end]
    shown = _merge_levels(kept, clipped != 0)
    if not shown.any():
        return np.inf
    wanted, found = _fill_empty(clipped), _fill_empty(shown)
    wanted, found = wanted / wanted.sum(), found / found.sum()
    return float((wanted * np.log(wanted / found)).sum())


def _merge_levels(kept: Floats, filled: NDArray[np.bool_]) -> Floats:
    """Each level's counts, spread evenly over the bins that it merges."""
    size = len(kept) // LEVELS
    whole = size * LEVELS
    sums = kept[:whole].reshape(LEVELS, size).sum(axis=1)
    sums[-1] += kept[whole:].sum()
    bins = filled[:whole].reshape(LEVELS, size).sum(axis=1)
    each = np.where(bins > 0, sums // np.maximum(bins, 1), 0.0)
    return np.concatenate([np.repeat(each, size), np.zeros(len(kept) - whole)])


def _fill_empty(counts: Floats) -> NDArray[np.float32]:
    """A little for each empty bin, taken off the others; onnxruntime's ties need its precision."""
    empty = counts == 0
    taken = LITTLE * empty.sum() / max(len(counts) - empty.sum(), 1)
    return np.where(empty, np.float32(LITTLE), counts.astype(np.float32) - np.float32(taken))
