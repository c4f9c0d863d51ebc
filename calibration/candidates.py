"""A lower precision to try: written as a bundle of its own, judged, then published or refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from relo_edge.bundle import QDQ_PRECISIONS, Bundle, describe_files, publish_precision
from relo_edge.calibration.cache_key import describe_recording
from relo_edge.calibration.engine_graphs import add_engine_graphs, halve_remainder
from relo_edge.calibration.plan import Run
from relo_edge.calibration.recording import Recording
from relo_edge.calibration.verdict import (
    Verdict,
    judge,
    mark_held,
    measure_outputs,
    measure_track,
)
from relo_edge.contract import STEP, describe_graph, list_graphs
from relo_edge.errors import GateError
from relo_edge.graphs.saving import save_graph
from relo_edge.host.progress import show_progress

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = [
    "Candidate",
    "Quantized",
    "count_frames",
    "describe_source",
    "judge_candidate",
    "publish_best",
    "write_candidate",
]

log = logging.getLogger("relo_edge")

JUDGED_SAMPLES = 48
NOTES_FILE = {"int8": "calibration.json", "fp8": "fp8.json", "fp16": "fp16.json"}


@dataclass(frozen=True)
class Quantized:
    """A bundle with its new precision, and the verdict on it."""

    bundle: Bundle
    precision: str
    method: str
    verdict: Verdict

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "precision": self.precision,
            "method": self.method,
            "share_of_float32": self._measure_share(),
            **self.verdict.to_dict(),
        }

    def describe(self) -> str:
        """The file, the verdict, and how to use the precision: none is chosen unmeasured."""
        graph = self.bundle.path / self.bundle.manifest["graphs"][self.precision]["step"]
        head = f"{graph}: {self._measure_share():.0%} of float32, {self.method}"
        return f"{head}\n{self.verdict.describe()}\n{self._advise()}"

    def _measure_share(self) -> float:
        graphs, files = self.bundle.manifest["graphs"], self.bundle.manifest["files"]
        sizes = [files[graphs[p]["step"]]["bytes"] for p in (self.precision, "fp32")]
        return float(sizes[0] / sizes[1])

    def _advise(self) -> str:
        path, precision = quote(str(self.bundle.path)), self.precision
        if precision == "int8":
            bench = f"relo-edge bench {path} --all"
            return f"to use it: --precision {precision}; or `{bench}`, and auto takes the fastest"
        return f"to use it on a GPU: `relo-edge build-engine {path} --{precision}`"


@dataclass(frozen=True)
class Candidate:
    """A bundle of its own with one new precision, and what was measured of it."""

    bundle: Bundle
    precision: str
    method: str
    verdict: Verdict

    @property
    def score(self) -> tuple[bool, float, float]:
        """What passes comes first; then the sequence, where float32 has one; then the outputs."""
        iou = self.verdict.track.closed_loop_iou if self.verdict.judged_track else 0.0
        return self.verdict.passed, iou, self.verdict.worst_output[1].cosine


def write_candidate(
    bundle: Bundle,
    folder: Path,
    precision: str,
    models: Mapping[str, ModelProto],
    notes: Mapping[str, Any],
    state_dtype: str = "float32",
) -> Bundle:
    """A bundle of its own, so that any runtime can open it; graphs not given stay float32."""
    folder.mkdir()
    graphs = {}
    for name in list_graphs(bundle.variant):
        source = bundle.graph(name)
        graphs[name] = f"{name}.{precision}.onnx" if name in models else source.name
        if name in models:
            save_graph(models[name], folder / graphs[name])
        else:
            (folder / source.name).symlink_to(source.resolve())
    text = json.dumps(notes, indent=2) + "\n"
    (folder / NOTES_FILE[precision]).write_text(text, encoding="utf-8")
    manifest = {
        **bundle.manifest,
        "graphs": {precision: graphs},
        "state_dtype": {precision: state_dtype},
        "engine_graphs": {},
        "files": describe_files(folder, *graphs.values(), NOTES_FILE[precision]),
    }
    return Bundle(folder, bundle.variant, manifest)


def judge_candidate(
    bundle: Bundle,
    candidate: Bundle,
    precision: str,
    method: str,
    recording: Recording,
    gate: str | None = None,
) -> Candidate:
    """Compare the candidate with float32, output by output and in closed loop.

    `gate` names the gate of another precision, where that is the coarser one in the graph.
    """
    frames = count_frames(recording.runs)
    every = max(1, frames // JUDGED_SAMPLES)
    feeds = islice(recording.step_feeds(), 0, None, every)
    held = islice(mark_held(recording, bundle.variant), 0, None, every)
    graphs = bundle.graph("step"), candidate.graph("step", precision)
    contract = describe_graph(bundle.variant, STEP, candidate.state_dtype(precision))
    steps = measure_outputs(*graphs, contract, feeds, held)
    with show_progress(f"judging {method}", frames) as advance:
        track = measure_track(candidate, precision, recording, advance)
    verdict = judge(gate or precision, steps, track)
    worst, error = verdict.worst_output
    numbers = f"closed-loop IoU {track.closed_loop_iou:.3f}, worst cosine {error.cosine:.4f}"
    log.info("%s: %s (%s)", method, numbers, worst)
    return Candidate(candidate, precision, method, verdict)


def publish_best(
    bundle: Bundle, candidates: Sequence[Candidate], recording: Recording
) -> Quantized:
    """Take the best candidate over into the bundle, or refuse it by name."""
    best = max(candidates, key=lambda candidate: candidate.score)
    if not best.verdict.passed:
        raise GateError(
            f"{best.precision} of {bundle.path} is not kept",
            found="; ".join(best.verdict.failures),
            expected="every output within its gate",
            fix="record clips like those that will be tracked, with --clips",
        )
    chosen = best.bundle
    if best.precision in QDQ_PRECISIONS:
        graphs = halve_remainder(chosen, best.precision, recording)
        chosen = add_engine_graphs(chosen, best.precision, graphs)
    extra = {"verdicts": {best.precision: best.verdict.to_dict()}}
    published = publish_precision(bundle, chosen, best.precision, extra)
    return Quantized(published, best.precision, best.method, best.verdict)


def describe_source(bundle: Bundle, recording: Recording) -> dict[str, Any]:
    """Where the samples came from."""
    return {
        "samples": count_frames(recording.runs),
        "recorded_from": describe_recording(bundle, recording.runs),
    }


def count_frames(runs: Sequence[Run]) -> int:
    """How many frames the runs have together."""
    return sum(run.length for run in runs)
