"""How well boxes follow the truth, by the definitions behind the published figures.

Success, precision and normalised precision are the release's (one-pass evaluation: the first
frame counts, and its box is the given one); AO and SR are the GOT-10k toolkit's (the first frame
is left out, and overall figures pool the frames of all sequences). Both conventions of a frame's
overlap are kept, to the last rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from relo_edge.errors import InputError
from relo_edge.geometry import Boxes, Flags, Floats, has_area

__all__ = [
    "ABSENCE_RULES",
    "CENTRE_THRESHOLDS",
    "NORMALISED_THRESHOLDS",
    "OVERLAP_THRESHOLDS",
    "AbsenceRule",
    "Curves",
    "Score",
    "draw_success",
    "measure_auc",
    "measure_toolkit_overlaps",
    "merge_scores",
    "score_boxes",
]


OVERLAP_THRESHOLDS = np.arange(21, dtype=np.float64) * 0.05
CENTRE_THRESHOLDS = np.arange(51.0)
NORMALISED_THRESHOLDS = np.arange(51) / 100

REPORTED = 20
"""The threshold of both precisions that is reported: 20 pixels, and 0.20 of the true box."""


@dataclass(frozen=True)
class AbsenceRule:
    """What the release makes of a frame without a box to compare with: never a success."""

    precise: bool = False
    """Whether it counts as precise."""
    hidden_normalised: bool = True
    """Whether a frame that is labelled as hidden counts as precise in the normalised sense; one
    that merely has no box always does."""
    hidden_counts: bool = True
    """Whether the label hides a frame from success and precision at all, or only from AO."""


ABSENCE_RULES = MappingProxyType(
    {
        "lasot": AbsenceRule(hidden_normalised=False),
        "uav": AbsenceRule(precise=True),
        "got10k": AbsenceRule(hidden_counts=False),
    }
)
"""Where a dataset has rules of its own in the release or the toolkit."""


@dataclass(frozen=True, eq=False)
class _Absence:
    """The frames that have no true box, and those that the dataset labels as hidden."""

    boxless: Flags
    hidden: Flags
    rule: AbsenceRule


@dataclass(frozen=True, eq=False)
class Curves:
    """Shares of frames over the thresholds."""

    success: Floats
    """[21] overlap above OVERLAP_THRESHOLDS."""
    precision: Floats
    """[51] centre error within CENTRE_THRESHOLDS, in pixels."""
    norm_precision: Floats
    """[51] centre error, in sizes of the true box, within NORMALISED_THRESHOLDS."""

    def to_dict(self) -> dict[str, list[float]]:
        """Plain data."""
        return {name: values.tolist() for name, values in vars(self).items()}


@dataclass(frozen=True, eq=False)
class Score:
    """A sequence's figures, or a dataset's; fractions from 0 to 1."""

    frames: int
    curves: Curves
    overlaps: Floats
    """The overlaps that AO and SR are made of."""

    @property
    def auc(self) -> float:
        """Area under the success curve: its mean."""
        return float(self.curves.success.mean())

    @property
    def precision(self) -> float:
        """Share of frames with the centre within 20 pixels."""
        return float(self.curves.precision[REPORTED])

    @property
    def norm_precision(self) -> float:
        """Share of frames with the centre within 0.20 of the true box's size."""
        return float(self.curves.norm_precision[REPORTED])

    @property
    def ao(self) -> float | None:
        """Average overlap; None where no frame shows the target."""
        return float(self.overlaps.mean()) if self.overlaps.size else None

    def success_rate(self, threshold: float) -> float | None:
        """Share of the frames of AO with an overlap above the threshold."""
        return float((self.overlaps > threshold).mean()) if self.overlaps.size else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, the curves left out."""
        return {
            "auc": self.auc,
            "precision": self.precision,
            "norm_precision": self.norm_precision,
            "ao": self.ao,
            "sr50": self.success_rate(0.5),
            "sr75": self.success_rate(0.75),
            "frames": self.frames,
            "scored": len(self.overlaps),
        }


def score_boxes(
    boxes: Boxes,
    truth: Boxes,
    hidden: Flags | None = None,
    *,
    dataset: str = "default",
    picture: tuple[int, int] | None = None,
) -> Score:
    """Score one sequence's boxes; what is no box is a miss.

    `hidden` are the frames whose target the dataset labels as not to be seen. With a `picture`
    (width, height), AO and SR look only at what lies inside it, as the GOT-10k toolkit does.
    """
    boxes, truth = np.array(boxes, np.float64), np.asarray(truth, np.float64)
    if boxes.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != 4 or not len(truth):
        raise InputError("boxes to score", found=list(boxes.shape), expected=list(truth.shape))
    hidden = np.zeros(len(truth), np.bool_) if hidden is None else hidden
    absence = _Absence(~has_area(truth), hidden, ABSENCE_RULES.get(dataset, AbsenceRule()))
    boxes[0] = truth[0]
    shown = ~(absence.boxless | absence.hidden)
    return Score(
        frames=len(truth),
        curves=_draw_curves(boxes, truth, absence),
        overlaps=measure_toolkit_overlaps(boxes, truth, picture)[1:][shown[1:]],
    )


def merge_scores(scores: Sequence[Score]) -> Score:
    """A dataset's figures: curves averaged over sequences, overlaps pooled over frames."""
    if not scores:
        raise InputError("scores", found="none", expected="one sequence or more")
    names = ("success", "precision", "norm_precision")
    mean = {name: np.mean([getattr(s.curves, name) for s in scores], axis=0) for name in names}
    pooled = np.concatenate([score.overlaps for score in scores])
    return Score(sum(score.frames for score in scores), Curves(**mean), pooled)


def measure_toolkit_overlaps(
    boxes: Boxes, truth: Boxes, picture: tuple[int, int] | None = None
) -> Floats:
    """[n] intersection over union, as the GOT-10k toolkit computes it; 0 where either is no box."""
    comparable = (has_area(boxes) & has_area(truth))[:, None]
    first, second = np.where(comparable, boxes, 0.0), np.where(comparable, truth, 0.0)
    if picture is not None:
        first, second = _bound_boxes(first, picture), _bound_boxes(second, picture)
    low = np.maximum(first[:, :2], second[:, :2])
    high = np.minimum(first[:, :2] + first[:, 2:], second[:, :2] + second[:, 2:])
    shared = np.maximum(high - low, 0).prod(axis=1)
    union = first[:, 2:].prod(axis=1) + second[:, 2:].prod(axis=1) - shared
    return np.asarray(np.clip(shared / (union + np.finfo(np.float64).eps), 0, 1))


def draw_success(overlaps: Floats) -> Floats:
    """[21] the share of frames whose overlap is above each of OVERLAP_THRESHOLDS."""
    return np.asarray((overlaps[:, None] > OVERLAP_THRESHOLDS).mean(axis=0))


def measure_auc(overlaps: Floats) -> float:
    """The mean of these overlaps' success curve, whatever convention they were measured by."""
    return float(draw_success(overlaps).mean())


def _bound_boxes(boxes: Boxes, picture: tuple[int, int]) -> Boxes:
    """The toolkit's clipping: a box left of the picture is shifted in before its width is cut."""
    corner = np.clip(boxes[:, :2], 0, picture)
    return np.hstack([corner, np.clip(boxes[:, 2:], 0, np.asarray(picture) - corner)])


def _draw_curves(boxes: Boxes, truth: Boxes, absence: _Absence) -> Curves:
    rule = absence.rule
    hidden = absence.hidden & rule.hidden_counts
    absent = absence.boxless | hidden
    missed = ~has_area(boxes)
    boxes = np.where(missed[:, None], 0.0, boxes)
    truth = np.where(absent[:, None], 1.0, truth)
    overlaps = _overlap_pixels(boxes, truth)
    centre = np.linalg.norm(_find_centres(boxes) - _find_centres(truth), axis=1)
    sizes = truth[:, 2:]
    normalised = np.linalg.norm(_find_centres(boxes) / sizes - _find_centres(truth) / sizes, axis=1)
    overlaps[missed], centre[missed], normalised[missed] = -1, np.inf, np.inf
    overlaps[absent] = -1
    centre[absent] = -1 if rule.precise else np.inf
    normalised[absent] = -1
    if not rule.hidden_normalised:
        normalised[hidden] = np.inf
    return Curves(
        draw_success(overlaps),
        (centre[:, None] <= CENTRE_THRESHOLDS).mean(axis=0),
        (normalised[:, None] <= NORMALISED_THRESHOLDS).mean(axis=0),
    )


def _overlap_pixels(boxes: Boxes, truth: Boxes) -> Floats:
    """The release's overlap, whose boxes end on their last pixel."""
    low = np.maximum(boxes[:, :2], truth[:, :2])
    high = np.minimum(boxes[:, :2] + boxes[:, 2:] - 1.0, truth[:, :2] + truth[:, 2:] - 1.0)
    shared = np.maximum(high - low + 1.0, 0).prod(axis=1)
    union = boxes[:, 2:].prod(axis=1) + truth[:, 2:].prod(axis=1) - shared
    return np.asarray(shared / union)


def _find_centres(boxes: Boxes) -> Floats:
    return np.asarray(boxes[:, :2] + 0.5 * (boxes[:, 2:] - 1.0))
