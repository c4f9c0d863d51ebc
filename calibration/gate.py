"""The verdict on a lower precision: every output on its own, and the track as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.calibration.recording import Recording, track_run
from relo_edge.calibration.samples import Feeds
from relo_edge.geometry import box_iou, read_box
from relo_edge.runtime import open_runtime

__all__ = ["GATES", "Gate", "OutputError", "Verdict", "judge", "measure_outputs", "measure_track"]

# What the bundle's outputs are made of: an average over them would hide the loss of one.
OUTPUTS = {
    "policy_logits": "policy_logits",
    "sizes": "size/map",
    "offsets": "offset/map",
    "temporal_tokens": "temporal_tokens_out",
}
TRACKS = 0.5
"""A float tracker that overlaps the truth by less does not track the clips itself: its cells are
near ties, and whether another precision follows them says nothing. They are reported only."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Gate:
    """What a precision must reach to be kept."""

    cosine: float
    relative: float
    argmax_agreement: float
    closed_loop_iou: float


GATES = {
    "fp16": Gate(cosine=0.9995, relative=5e-3, argmax_agreement=0.97, closed_loop_iou=0.98),
    "int8": Gate(cosine=0.99, relative=0.5, argmax_agreement=0.80, closed_loop_iou=0.85),
}


@dataclass(frozen=True)
class OutputError:
    """One output over all samples: its cosine with the float graph's, its error of the largest."""

    cosine: float
    relative: float


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
    reference, candidate = _open_exposed(float_graph), _open_exposed(graph)
    names = list(OUTPUTS.values())
    tallies = {name: _Tally() for name in OUTPUTS}
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
    overlaps: list[float] = []
    with closing(open_runtime(bundle, "onnxruntime", precision)) as runtime:
        for run, expected in zip(recording.runs, recording.boxes(), strict=True):
            boxes = track_run(runtime, run, advance)
            overlaps += [_overlap(a, b) for a, b in zip(boxes, expected, strict=True)]
    return float(np.mean(overlaps))


def measure_float_track(recording: Recording) -> float | None:
    """Mean IoU of the float tracker with the truth, over the frames that have one."""
    overlaps: list[float] = []
    for run, boxes in zip(recording.runs, recording.boxes(), strict=True):
        if run.truth is not None:
            pairs = zip(boxes, run.truth, strict=True)
            overlaps += [_overlap(a, b) for a, b in pairs if np.isfinite(b).all()]
    return float(np.mean(overlaps)) if overlaps else None


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
    checks = []
    for name, error in outputs.items():
        cosine, relative = error.cosine, error.relative
        checks.append((cosine >= gate.cosine, f"{name} cosine {cosine:.4f} < {gate.cosine}"))
        checks.append((relative <= gate.relative, f"{name} error {relative:.1e} > {gate.relative}"))
    if judged:
        least = gate.argmax_agreement
        checks.append((agreement >= least, f"argmax agreement {agreement:.2f} < {least}"))
        iou, least = closed_loop_iou, gate.closed_loop_iou
        checks.append((iou >= least, f"closed-loop IoU {iou:.3f} < {least}"))
    failures = tuple(word for met, word in checks if not met)
    return Verdict(
        precision, samples, outputs, agreement, closed_loop_iou, float_iou, judged, failures
    )


class _Tally:
    """Sums that give a cosine and a largest error without keeping the tensors."""

    def __init__(self) -> None:
        self.product = self.reference = self.candidate = self.error = self.largest = 0.0

    def add(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """One sample's tensors."""
        want, got = reference.astype(np.float64), candidate.astype(np.float64)
        self.product += float((want * got).sum())
        self.reference += float((want * want).sum())
        self.candidate += float((got * got).sum())
        # np.maximum keeps a NaN that max() would lose.
        self.error = float(np.maximum(self.error, np.abs(want - got).max()))
        self.largest = max(self.largest, float(np.abs(want).max()))

    def sum_up(self) -> OutputError:
        """The errors of all samples together."""
        norms = np.sqrt(self.reference * self.candidate)
        cosine = self.product / norms if norms else float(self.reference == self.candidate)
        return OutputError(float(cosine), self.error / max(self.largest, 1e-12))


def _overlap(first: Floats, second: Floats) -> float:
    return box_iou(read_box(first), read_box(second))


def _open_exposed(graph: Path) -> Any:
    """A session that also gives the maps that the box is read from."""
    import onnx
    import onnxruntime

    model = onnx.load(graph)
    present = {output.name for output in model.graph.output}
    types = {value.name: value.type for value in _infer_types(model)}
    for name in OUTPUTS.values():
        if name not in present:
            model.graph.output.append(onnx.ValueInfoProto(name=name, type=types[name]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def _infer_types(model: Any) -> Any:
    import onnx

    return onnx.shape_inference.infer_shapes(model).graph.value_info
