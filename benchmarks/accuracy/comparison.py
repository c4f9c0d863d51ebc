"""Two results of the same sequences: where they differ, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.benchmarks.accuracy.results import FIGURES
from relo_edge.benchmarks.accuracy.results_folder import SUMMARY
from relo_edge.errors import InputError, SourceError
from relo_edge.host.json_files import read_json

__all__ = ["Comparison", "Difference", "compare_results"]

SEED = 0
RESAMPLES = 10_000
CONFIDENCE = 0.95
SHOWN = 10

FEWEST = 5
"""Of fewer sequences nothing can be resampled: of one, every drawn dataset is the same."""

# AO and SR pool frames, so a sequence weighs as much as it has frames of the target.
POOLED = ("ao", "sr50", "sr75")


@dataclass(frozen=True)
class Difference:
    """The second's figure less the first's, and where 95 % of resampled datasets have it."""

    first: float
    second: float
    difference: float
    low: float | None
    """None, like `high`, where there are too few sequences to resample."""
    high: float | None

    @property
    def verdict(self) -> str:
        """Whether the sign of the difference holds for resampled sequences."""
        if self.low is None or self.high is None:
            return "too few sequences"
        if self.low <= 0 <= self.high:
            return "no clear difference"
        return "better" if self.low > 0 else "worse"


@dataclass(frozen=True)
class Comparison:
    """Figures of all sequences, and what each of them adds to the difference."""

    first: str
    second: str
    fps: tuple[float | None, float | None]
    """Of the trackers alone, each on its own machine."""
    figures: Mapping[str, Difference]
    sequences: Mapping[str, Mapping[str, float | None]]

    def to_dict(self) -> dict[str, Any]:
        """Plain data; differences are second less first."""
        return {
            "first": self.first,
            "second": self.second,
            "fps": list(self.fps),
            "confidence": CONFIDENCE,
            "figures": {n: {**asdict(d), "verdict": d.verdict} for n, d in self.figures.items()},
            "sequences": {name: dict(figures) for name, figures in self.sequences.items()},
        }

    def describe(self) -> str:
        """The same for a reader."""
        lines = [f"second ({self.second}) less first ({self.first}), in points"]
        lines.append(f"{'':<8}{'first':>8}{'second':>8}{'diff':>8}   95 % interval")
        for name, one in self.figures.items():
            values = "".join(f"{100 * v:>8.1f}" for v in (one.first, one.second))
            told = f"{_format_interval(one.low, one.high)}  {one.verdict}"
            lines.append(f"{FIGURES[name]:<8}{values}{100 * one.difference:>+8.2f}   {told}")
        rates = "".join(f"{'-' if rate is None else f'{rate:.1f}':>8}" for rate in self.fps)
        return "\n".join([*lines, f"{'FPS':<8}{rates}", *_list_changes(self.sequences)])


def compare_results(first: Path, second: Path) -> Comparison:
    """Pair the sequences of two results folders, and resample them."""
    (rate, one), (other_rate, other) = _read_summary(first), _read_summary(second)
    _check_pairs(first, one, second, other)
    names = list(one)
    figures = {}
    for figure in FIGURES:
        pairs = [(one[n][figure], other[n][figure], one[n]["scored"]) for n in names]
        told = np.array([pair for pair in pairs if None not in pair], np.float64).reshape(-1, 3)
        if len(told):
            weights = told[:, 2] if figure in POOLED else np.ones(len(told))
            figures[figure] = _resample(told[:, 0], told[:, 1], weights)
    changes = {n: {f: _subtract(other[n][f], one[n][f]) for f in FIGURES} for n in names}
    return Comparison(str(first), str(second), (rate, other_rate), figures, changes)


def _resample(
    first: NDArray[np.float64], second: NDArray[np.float64], weights: NDArray[np.float64]
) -> Difference:
    """Datasets of as many sequences, drawn from these with replacement; the same every time."""
    mean, other = (float(np.average(values, weights=weights)) for values in (first, second))
    if len(first) < FEWEST:
        return Difference(mean, other, other - mean, None, None)
    random = np.random.default_rng(SEED)
    drawn = random.integers(0, len(first), (RESAMPLES, len(first)))
    changes = (second - first) * weights
    drawn_changes = changes[drawn].sum(axis=1) / weights[drawn].sum(axis=1)
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(drawn_changes, [tail, 100 - tail])
    return Difference(mean, other, other - mean, float(low), float(high))


def _read_summary(folder: Path) -> tuple[float | None, dict[str, dict[str, Any]]]:
    """Frames per second, and each sequence's figures."""
    file = folder / SUMMARY
    if not file.is_file():
        raise InputError(
            f"results {str(folder)!r}",
            found=f"no {SUMMARY}",
            expected="a folder that `relo-edge eval` has finished",
        )
    try:
        summary = read_json(file)
        rate, sequences = summary.get("fps"), summary["sequences"]
        figures = {str(name): _read_figures(one) for name, one in sequences.items()}
        return None if rate is None else float(rate), figures
    except KeyError as error:
        raise SourceError(
            f"{file}", found=f"no {error.args[0]}", expected="figures; a submission has none"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        raise SourceError(
            f"{file} cannot be read", found="damage", fix="run `relo-edge eval` again"
        ) from None


def _read_figures(stored: Mapping[str, Any]) -> dict[str, Any]:
    stored = {name: stored[name] for name in (*FIGURES, "frames", "scored")}
    figures = {n: None if value is None else float(value) for n, value in stored.items()}
    if figures["ao"] is not None and not figures["scored"]:
        raise ValueError("AO of no frame")
    return figures


def _check_pairs(
    first: Path, one: Mapping[str, Any], second: Path, other: Mapping[str, Any]
) -> None:
    alone = sorted(set(one) ^ set(other))
    if alone:
        raise InputError(
            f"{first} and {second} are of other sequences",
            found=f"{alone[0]} in one of them alone",
            expected="the same in both",
        )
    for name in one:
        if one[name]["frames"] != other[name]["frames"]:
            raise InputError(
                f"sequence {name}",
                found=f"{one[name]['frames']:g} and {other[name]['frames']:g} frames",
                expected="as many in both results",
            )


def _subtract(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _format_interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"[{100 * low:+.2f}, {100 * high:+.2f}]"


def _list_changes(sequences: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    changes = {name: figures["auc"] or 0.0 for name, figures in sequences.items()}
    largest = sorted(changes, key=lambda name: -abs(changes[name]))[:SHOWN]
    width = max((len(name) for name in largest), default=0)
    lines = [f"{name:<{width}}{100 * changes[name]:>+8.2f}" for name in largest if changes[name]]
    if not lines:
        return ["no sequence has another AUC"]
    return ["largest differences in AUC:", *lines]
