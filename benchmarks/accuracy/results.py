"""What an evaluation found: figures for a program, a reader and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relo_edge.measures.accuracy import (
    CENTRE_THRESHOLDS,
    NORMALISED_THRESHOLDS,
    OVERLAP_THRESHOLDS,
    Score,
    merge_scores,
)

__all__ = ["FIGURES", "EvalResult", "print_figures"]

FIGURES = {
    "auc": "AUC",
    "precision": "P",
    "norm_precision": "P_norm",
    "ao": "AO",
    "sr50": "SR50",
    "sr75": "SR75",
}

SHOWN = 10
"""The worst sequences are printed; the summary on disk has all."""

THRESHOLDS = {
    "overlap": OVERLAP_THRESHOLDS.tolist(),
    "centre": CENTRE_THRESHOLDS.tolist(),
    "normalised_centre": NORMALISED_THRESHOLDS.tolist(),
}


@dataclass(frozen=True, eq=False)
class EvalResult:
    """A dataset's figures; without a score where a server keeps the truth."""

    tracker: str
    """Its name: bundle, runtime and precision, or that of a tracker which is no bundle."""
    dataset: str
    """Its layout."""
    dataset_name: str
    """Its folder's name."""
    frames: Mapping[str, int]
    scores: Mapping[str, Score]
    fps: float | None
    """Of the tracker alone, without start frames."""
    folder: Path
    submission: Path | None
    lower_rates: Mapping[int, EvalResult] = field(default_factory=dict)
    """What was reached where only every second, third … frame was tracked."""

    @property
    def score(self) -> Score | None:
        """All sequences together."""
        return merge_scores(list(self.scores.values())) if self.scores else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data; fractions from 0 to 1."""
        score = self.score
        figures = score.to_dict() if score else {}
        named = {n: self.scores[n].to_dict() for n in self.scores}
        return {
            "dataset": self.dataset,
            **{name: figures.get(name) for name in FIGURES},
            "fps": self.fps,
            "sequences": {n: named.get(n, {"frames": count}) for n, count in self.frames.items()},
            "results": str(self.folder),
            "submission": str(self.submission) if self.submission else None,
            "dataset_name": self.dataset_name,
            **({"every": self._list_rates()} if self.lower_rates else {}),
        }

    def _list_rates(self) -> dict[str, Any]:
        scores = {step: one.score for step, one in self.lower_rates.items()}
        return {
            str(step): {name: score.to_dict().get(name) for name in FIGURES}
            for step, score in scores.items()
            if score
        }

    def summarize(self) -> dict[str, Any]:
        """The same with the tracker's name and the curves, for reports and comparisons."""
        score = self.score
        curves = {"thresholds": THRESHOLDS, **score.curves.to_dict()} if score else None
        return {**self.to_dict(), "tracker": self.tracker, "curves": curves}

    def describe_dataset(self) -> str:
        """What was tracked, in a few words."""
        several = "s" if len(self.frames) > 1 else ""
        count = f"{len(self.frames)} sequence{several}, {sum(self.frames.values())} frames"
        return f"{self.dataset_name} ({self.dataset}): {count}"

    def describe(self) -> str:
        """The same for a reader."""
        lines = [self.describe_dataset() + (f", {self.fps:.1f} FPS" if self.fps else "")]
        if self.score:
            lines += _draw_table(self.score, self.scores)
        lines += [
            f"every {step} frames{print_figures(one.score)}"
            for step, one in self.lower_rates.items()
            if one.score
        ]
        if self.submission:
            lines.append(f"the truth is withheld; to submit: {self.submission}")
        return "\n".join([*lines, f"results in {self.folder}"])


def _draw_table(score: Score, scores: Mapping[str, Score]) -> list[str]:
    width = max(len(name) for name in scores)
    head = "".join(f"{title:>8}" for title in FIGURES.values())
    worst = sorted(scores, key=lambda name: scores[name].auc)[:SHOWN]
    rows = [("all", score), *((name, scores[name]) for name in worst)]
    lines = [f"{name:<{width}}{print_figures(one)}" for name, one in rows]
    left = len(scores) - len(worst)
    return [f"{'':<{width}}{head}", *lines, *([f"… and {left} with a higher AUC"] if left else [])]


def print_figures(score: Score) -> str:
    """A row of the table: percent, below the titles of `FIGURES`."""
    figures = score.to_dict()
    return "".join(
        f"{'-':>8}" if figures[name] is None else f"{100 * figures[name]:>8.1f}" for name in FIGURES
    )
