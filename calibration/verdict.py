"""The verdict on a lower precision: every output on its own, and the track as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relo_edge.bundle import Bundle
from relo_edge.calibration.recording import Recording, track_run
from relo_edge.calibration.samples import Feeds
from relo_edge.contract import GraphContract
from relo_edge.families.registry import find_family
from relo_edge.geometry import Floats
from relo_edge.graphs.sessions import open_exposed
from relo_edge.measures.accuracy import measure_auc
from relo_edge.measures.closed_loop import measure_overlaps_or_nan
from relo_edge.measures.gates import (
    GATES,
    ON_TARGET_IOU,
    StartSensitivity,
    find_on_target,
    judge_outputs,
    judge_track,
    select_on_target,
)
from relo_edge.measures.tensor_errors import ErrorTally, OutputError
from relo_edge.runtime import open_runtime
from relo_edge.spec import TrackerVariant

__all__ = [
    "StepScore",
    "TrackScore",
    "Verdict",
    "judge",
    "mark_held",
    "measure_outputs",
    "measure_track",
    "score_track",
]


# What a box is made of, where there is a map: an average over boxes would hide the loss of one.
BOX_MAPS = {"sizes": "size/map", "offsets": "offset/map"}

UNTRAINED_IOU = 0.2
"""Overlap with the truth below which a network hardly tracks; clips too hard for one give more."""


@dataclass(frozen=True)
class StepScore:
    """Single steps on what was recorded, beside the float graph's."""

    outputs: dict[str, OutputError]
    argmax_agreement: float
    """Over the judged cells."""
    judged_cells: int
    """Samples in which the float tracker holds its target or the truth is not known."""
    samples: int


@dataclass(frozen=True)
class TrackScore:
    """The recorded runs tracked anew, beside the float tracker's boxes and, if known, the truth."""

    closed_loop_iou: float
    """With the float tracker, where that one holds its target or the truth is not known."""
    start_sensitivity: StartSensitivity
    """The float tracker's own, from perturbed starts."""
    float_iou: float | None = None
    """The float tracker's own overlap with the truth."""
    auc_loss: float | None = None
    """What the float tracker's success AUC is above this one's."""

    @property
    def is_telling(self) -> bool:
        """Whether the float tracker tracks these clips, so that following it means something."""
        return self.float_iou is None or self.float_iou >= ON_TARGET_IOU


@dataclass(frozen=True)
class Verdict:
    """What was measured and what of it is below the gate."""

    precision: str
    samples: int
    outputs: dict[str, OutputError]
    argmax_agreement: float
    judged_cells: int
    track: TrackScore
    judged_track: bool
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the precision is kept."""
        return not self.failures

    @property
    def worst_output(self) -> tuple[str, OutputError]:
        """The output furthest from float32, by its cosine."""
        return min(self.outputs.items(), key=lambda item: item[1].cosine)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"passed": self.passed, **asdict(self)}

    def describe(self) -> str:
        """A table and the verdict."""
        lines = [f"{self.precision} against float32, {self.samples} samples"]
        for name, error in self.outputs.items():
            numbers = f"cosine {error.cosine:.5f}  relative error {error.relative:.1e}"
            lines.append(f"  {name:<16} {numbers}")
        judged = f"the {self.judged_cells} samples in which float32 is on its target"
        start_sensitivity = self.track.start_sensitivity
        own = f"float32 from perturbed starts: {start_sensitivity.closed_loop_iou:.3f}"
        lines.append(f"  same cell chosen in {self.argmax_agreement:.1%} of {judged}")
        lines.append(f"  closed-loop IoU with float32 {self.track.closed_loop_iou:.3f} ({own})")
        if self.track.auc_loss is not None:
            own = f"float32 from perturbed starts: {start_sensitivity.auc_loss:.3f}"
            side = "below" if self.track.auc_loss >= 0 else "above"
            lines.append(f"  AUC {abs(self.track.auc_loss):.3f} {side} float32's ({own})")
        if not self.judged_track:
            own = f"float32 itself overlaps the truth by only {self.track.float_iou:.2f}"
            if self.track.float_iou is not None and self.track.float_iou < UNTRAINED_IOU:
                own += " (untrained weights?)"
            lines.append(f"  cells and track not judged: {own}")
        lines.append(f"  {GATES[self.precision].describe()}")
        passed = "PASSED" if self.judged_track else "PASSED for its outputs; track NOT judged"
        lines.append(passed if self.passed else "FAILED: " + "; ".join(self.failures))
        return "\n".join(lines)


def measure_outputs(
    float_graph: Path,
    graph: Path,
    contract: GraphContract,
    feeds: Iterable[Feeds],
    held: Iterable[bool],
) -> StepScore:
    """Both graphs on the same samples; the cells count where the float tracker `held` its target.

    Where it has lost it, its cells are near ties, as in `score_track`. The contract is that of the
    second graph, which may carry its state in another type.
    """
    outputs = list_judged(contract)
    names = list(outputs.values())
    reference, candidate = (open_exposed(path, names) for path in (float_graph, graph))
    tallies = {name: ErrorTally() for name in outputs}
    agreed = []
    for sample in feeds:
        want = reference.run(names, sample)
        fed = {s.name: sample[s.name].astype(s.dtype, copy=False) for s in contract.inputs}
        got = candidate.run(names, fed)
        for tally, one, other in zip(tallies.values(), want, got, strict=True):
            tally.add(one, other)
        agreed.append(
            _choose_cell(contract, want[0], sample) == _choose_cell(contract, got[0], sample)
        )
    errors = {name: tally.sum_up() for name, tally in tallies.items()}
    judged = select_on_target(np.array(agreed), np.fromiter(held, np.bool_))
    return StepScore(errors, float(judged.mean()), len(judged), len(agreed))


def list_judged(contract: GraphContract) -> dict[str, str]:
    """By name in a verdict, the tensors that are judged: the map's first, or else the box."""
    states = {state.before.name: state.after.name for state in contract.states}
    cells = contract.find_output("map")
    if cells is None:
        return {spec.name: spec.name for spec in contract.list_outputs("box", "score")} | states
    return {cells.name: cells.name} | BOX_MAPS | states


def _choose_cell(contract: GraphContract, scores: Floats, sample: Feeds) -> int:
    """The cell of a map; without one there is but one place to look at."""
    window = contract.find_input("shared")
    if contract.find_output("map") is None or window is None:
        return 0
    return int(np.argmax(scores[0] * sample[window.name]))


def mark_held(recording: Recording, variant: TrackerVariant) -> Iterator[bool]:
    """For each recorded step, whether the float tracker holds its target, as far as is known."""
    motion = find_family(variant.family).motion(variant, variant.protocol())
    for run, boxes in zip(recording.runs, recording.boxes(), strict=True):
        if motion.steps_first_frame:
            yield True
        yield from find_on_target(measure_overlaps_or_nan(boxes, run.truth)).tolist()


def measure_track(
    bundle: Bundle, precision: str, recording: Recording, advance: Callable[[], None]
) -> TrackScore:
    """Track every recorded run anew and hold it against the float tracker's boxes and the truth."""
    followed, overlaps = [], []
    tracks = zip(recording.runs, recording.boxes(), recording.perturbed_boxes(), strict=True)
    with closing(open_runtime(bundle, "onnxruntime", precision)) as runtime:
        for run, expected, perturbed in tracks:
            boxes = [track_run(runtime, run, run.box, advance), *perturbed]
            followed.append([measure_overlaps_or_nan(one, expected) for one in boxes])
            overlaps.append([measure_overlaps_or_nan(one, run.truth) for one in (*boxes, expected)])
    return score_track(np.concatenate(followed, axis=1), np.concatenate(overlaps, axis=1))


def score_track(followed: Floats, overlaps: Floats) -> TrackScore:
    """From the overlaps of each frame, with the float tracker's boxes and with the truth.

    The candidate's come first, then the float tracker's from perturbed starts; with the truth, its
    own are last. Where that one has lost its target, whether it is followed says nothing.
    """
    theirs = overlaps[-1]
    known = np.isfinite(theirs)
    mine, *perturbed = select_on_target(followed.T, find_on_target(theirs)).mean(axis=0).tolist()
    if not known.any():
        return TrackScore(mine, StartSensitivity(min(perturbed)))
    *aucs, own = (measure_auc(row[known]) for row in overlaps)
    loss, *losses = (own - auc for auc in aucs)
    start_sensitivity = StartSensitivity(min(perturbed), max(0.0, *losses))
    return TrackScore(mine, start_sensitivity, float(theirs[known].mean()), loss)


def judge(precision: str, steps: StepScore, track: TrackScore) -> Verdict:
    """Hold the measurements against the precision's gate."""
    gate, agreement = GATES[precision], steps.argmax_agreement
    failures = judge_outputs(gate, steps.outputs)
    if track.is_telling:
        failures += judge_track(
            gate, agreement, track.closed_loop_iou, track.start_sensitivity, track.auc_loss
        )
    return Verdict(
        precision,
        steps.samples,
        steps.outputs,
        agreement,
        steps.judged_cells,
        track,
        track.is_telling,
        tuple(failures),
    )
