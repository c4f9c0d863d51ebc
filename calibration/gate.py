"""The verdict on a lower precision: every output on its own, and the track as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relo_edge.bundle import Bundle
from relo_edge.calibration.recording import Recording, track_run
from relo_edge.calibration.samples import Feeds
from relo_edge.comparison import (
    GATES,
    TRACKS,
    ErrorTally,
    OutputError,
    judge_outputs,
    judge_track,
    measure_overlaps,
)
from relo_edge.exposure import open_exposed
from relo_edge.runtime import open_runtime

__all__ = ["Verdict", "judge", "measure_outputs", "measure_track"]

# What the bundle's outputs are made of: an average over them would hide the loss of one.
OUTPUTS = {
    "policy_logits": "policy_logits",
    "sizes": "size/map",
    "offsets": "offset/map",
    "temporal_tokens": "temporal_tokens_out",
}


@dataclass(frozen=True)
class Verdict:
    """What was measured and what of it is below the gate."""

    precision: str
    samples: int
    outputs: dict[str, OutputError]
    argmax_agreement: float
    closed_loop_iou: float
    float_iou: float | None
    """The float tracker's overlap with the truth, where there is one."""
    judged_track: bool
    failures: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether the precision is kept."""
        return not self.failures

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"passed": self.passed, **asdict(self)}

    def describe(self) -> str:
        """A table and the verdict."""
        lines = [f"{self.precision} against float32, {self.samples} samples"]
        for name, error in self.outputs.items():
            numbers = f"cosine {error.cosine:.5f}  relative error {error.relative:.1e}"
            lines.append(f"  {name:<16} {numbers}")
        lines.append(f"  same cell chosen in {self.argmax_agreement:.1%}")
        lines.append(f"  closed-loop IoU with float32 {self.closed_loop_iou:.3f}")
        if not self.judged_track:
            own = f"float32 itself overlaps the truth by only {self.float_iou:.2f}"
            lines.append(f"  cells and track not judged: {own}")
        lines.append("PASSED" if self.passed else "FAILED: " + "; ".join(self.failures))
        return "\n".join(lines)


def measure_outputs(
    float_graph: Path, graph: Path, feeds: Iterable[Feeds], state_dtype: str
) -> tuple[dict[str, OutputError], float, int]:
    """Both graphs on the same samples: each output's error, argmax agreement, samples."""
    reference, candidate = (open_exposed(path, OUTPUTS.values()) for path in (float_graph, graph))
    names = list(OUTPUTS.values())
    tallies = {name: ErrorTally() for name in OUTPUTS}
    agreed = []
    for sample in feeds:
        want = reference.run(names, sample)
        fed = {**sample, "temporal_tokens": sample["temporal_tokens"].astype(state_dtype)}
        got = candidate.run(names, fed)
        for tally, one, other in zip(tallies.values(), want, got, strict=True):
            tally.add(one, other)
        cells = [int(np.argmax(logits[0] * sample["window"])) for logits in (want[0], got[0])]
        agreed.append(cells[0] == cells[1])
    errors = {name: tally.sum_up() for name, tally in tallies.items()}
    return errors, float(np.mean(agreed)), len(agreed)


def measure_track(
    bundle: Bundle, precision: str, recording: Recording, advance: Callable[[], None]
) -> float:
    """Mean IoU with the float tracker's boxes over every recorded run, tracked anew."""
    overlaps = []
    with closing(open_runtime(bundle, "onnxruntime", precision)) as runtime:
        for run, expected in zip(recording.runs, recording.boxes(), strict=True):
            overlaps.append(measure_overlaps(track_run(runtime, run, advance), expected))
    return float(np.concatenate(overlaps).mean())


def measure_float_track(recording: Recording) -> float | None:
    """Mean IoU of the float tracker with the truth, over the frames that have one."""
    overlaps = [
        measure_overlaps(boxes, run.truth)
        for run, boxes in zip(recording.runs, recording.boxes(), strict=True)
        if run.truth is not None
    ]
    every = np.concatenate([np.empty(0), *overlaps])
    return float(np.nanmean(every)) if np.isfinite(every).any() else None


def judge(
    precision: str,
    measured: tuple[dict[str, OutputError], float, int],
    closed_loop_iou: float,
    float_iou: float | None,
) -> Verdict:
    """Hold the measurements against the precision's gate."""
    outputs, agreement, samples = measured
    judged = float_iou is None or float_iou >= TRACKS
    gate = GATES[precision]
    failures = judge_outputs(gate, outputs)
    if judged:
        failures += judge_track(gate, agreement, closed_loop_iou)
    return Verdict(
        precision, samples, outputs, agreement, closed_loop_iou, float_iou, judged, tuple(failures)
    )
