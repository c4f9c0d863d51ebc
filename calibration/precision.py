"""From a float32 bundle to one with an INT8 or FP16 graph, kept only when the gate is met."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from relo_edge.bundle import Bundle, describe_files, publish_precision
from relo_edge.calibration.activations import METHODS, collect_spreads
from relo_edge.calibration.gate import (
    Verdict,
    judge,
    measure_float_track,
    measure_outputs,
    measure_track,
)
from relo_edge.calibration.half import convert_half
from relo_edge.calibration.identity import describe_recording
from relo_edge.calibration.plan import FRAMES, Run, plan_runs
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.calibration.ranges import measure_ranges
from relo_edge.calibration.recording import Recording, record_samples
from relo_edge.clips import find_clips
from relo_edge.contract import GRAPHS
from relo_edge.errors import GateError, InputError
from relo_edge.files import find_cache
from relo_edge.progress import show_progress

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["METHOD_NAMES", "Quantized", "quantize_half", "quantize_int8", "record_clips"]

log = logging.getLogger("relo_edge")

METHOD_NAMES = ("auto", *METHODS)
JUDGED_SAMPLES = 48
NOTES_FILE = {"int8": "calibration.json", "fp16": "fp16.json"}


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
        """The file and the verdict."""
        graph = self.bundle.path / self.bundle.manifest["graphs"][self.precision]["step"]
        head = f"{graph}: {self._measure_share():.0%} of float32, {self.method}"
        return f"{head}\n{self.verdict.describe()}"

    def _measure_share(self) -> float:
        graphs, files = self.bundle.manifest["graphs"], self.bundle.manifest["files"]
        sizes = [files[graphs[p]["step"]]["bytes"] for p in (self.precision, "fp32")]
        return float(sizes[0] / sizes[1])


@dataclass(frozen=True)
class _Attempt:
    """A bundle of its own with one new precision, and what was measured of it."""

    candidate: Bundle
    precision: str
    method: str
    verdict: Verdict

    @property
    def score(self) -> tuple[float, float]:
        """By the sequence first, by the tensors second."""
        return self.verdict.closed_loop_iou, self.verdict.outputs["policy_logits"].cosine


def record_clips(bundle: Bundle, clips: Sequence[str], frames: int = FRAMES) -> Recording:
    """What the graphs see while the float tracker tracks; cached for a second call."""
    runs = plan_runs(find_clips(clips), frames)
    identity = json.dumps(describe_recording(bundle, runs))
    folder = find_cache() / "recordings" / sha256(identity.encode()).hexdigest()[:24]
    with show_progress("recording", _count_frames(runs)) as advance:
        return record_samples(bundle, runs, folder, advance)


def quantize_int8(bundle: Bundle, recording: Recording, method: str = "auto") -> Quantized:
    """Add an INT8 step graph; of several methods the one whose track stays closest is kept."""
    import onnx

    if method not in METHOD_NAMES:
        raise InputError("method", found=method, expected=" | ".join(METHOD_NAMES))
    graph = bundle.graph("step")
    model = onnx.load(graph)
    products = list_products(model)
    tensors = list_activations(model, products)
    with show_progress("ranges", _count_frames(recording.runs)) as advance:
        spreads = collect_spreads(graph, tensors, recording.step_feeds(), advance)
    attempts = []
    with TemporaryDirectory() as scratch:
        for name in METHODS if method == "auto" else [method]:
            thresholds = {tensor: s.find_threshold(name) for tensor, s in spreads.items()}
            quantized = quantize_graph(onnx.load(graph), products, thresholds)
            folder = Path(scratch) / name
            notes = {"method": name, "thresholds": thresholds}
            notes |= _describe_recording(bundle, recording)
            candidate = _write_candidate(bundle, folder, "int8", {"step": quantized}, notes)
            attempts.append(_judge_candidate(bundle, candidate, "int8", name, recording))
        return _publish_best(bundle, attempts)


def quantize_half(bundle: Bundle, recording: Recording) -> Quantized:
    """Add FP16 graphs; what stays float32 in them, and why, goes into the bundle."""
    import onnx

    feeds = {"template": recording.template_feeds, "step": recording.step_feeds}
    graphs, kept, state_dtype = {}, {}, "float32"
    for name in GRAPHS:
        path = bundle.graph(name)
        log.info("ranges of the %s graph", name)
        half = convert_half(onnx.load(path), bundle.variant, measure_ranges(path, feeds[name]()))
        graphs[name], kept[name] = half.model, dict(half.kept)
        if name == "step":
            state_dtype = half.state_dtype
    notes = {"kept_in_float32": kept, **_describe_recording(bundle, recording)}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fp16"
        candidate = _write_candidate(bundle, folder, "fp16", graphs, notes, state_dtype)
        attempt = _judge_candidate(bundle, candidate, "fp16", "by measured ranges", recording)
        return _publish_best(bundle, [attempt])


def _write_candidate(
    bundle: Bundle,
    folder: Path,
    precision: str,
    models: Mapping[str, ModelProto],
    notes: Mapping[str, Any],
    state_dtype: str = "float32",
) -> Bundle:
    """A bundle of its own, so that any runtime can open it; graphs not given stay float32."""
    import onnx

    folder.mkdir()
    graphs = {}
    for name in GRAPHS:
        source = bundle.graph(name)
        graphs[name] = f"{name}.{precision}.onnx" if name in models else source.name
        if name in models:
            onnx.save(models[name], folder / graphs[name])
        else:
            (folder / source.name).symlink_to(source.resolve())
    text = json.dumps(notes, indent=2) + "\n"
    (folder / NOTES_FILE[precision]).write_text(text, encoding="utf-8")
    manifest = {
        **bundle.manifest,
        "graphs": {precision: graphs},
        "state_dtype": {precision: state_dtype},
        "files": describe_files(folder, *graphs.values(), NOTES_FILE[precision]),
    }
    return Bundle(folder, bundle.variant, manifest)


def _judge_candidate(
    bundle: Bundle, candidate: Bundle, precision: str, method: str, recording: Recording
) -> _Attempt:
    frames = _count_frames(recording.runs)
    feeds = islice(recording.step_feeds(), 0, None, max(1, frames // JUDGED_SAMPLES))
    graphs = bundle.graph("step"), candidate.graph("step", precision)
    measured = measure_outputs(*graphs, feeds, candidate.state_dtype(precision))
    with show_progress(f"judging {method}", frames) as advance:
        iou = measure_track(candidate, precision, recording, advance)
    verdict = judge(precision, measured, iou, measure_float_track(recording))
    attempt = _Attempt(candidate, precision, method, verdict)
    worst = min(verdict.outputs, key=lambda name: verdict.outputs[name].cosine)
    cosine = verdict.outputs[worst].cosine
    log.info("%s: closed-loop IoU %.3f, worst cosine %.4f (%s)", method, iou, cosine, worst)
    return attempt


def _publish_best(bundle: Bundle, attempts: Sequence[_Attempt]) -> Quantized:
    """Take the best attempt over into the bundle, or refuse it by name."""
    best = max(attempts, key=lambda attempt: attempt.score)
    if not best.verdict.passed:
        raise GateError(
            f"{best.precision} of {bundle.path} is not kept",
            found="; ".join(best.verdict.failures),
            expected="every output within its gate",
            fix="record clips like those that will be tracked, with --clips",
        )
    extra = {"verdicts": {best.precision: best.verdict.to_dict()}}
    published = publish_precision(bundle, best.candidate, best.precision, extra)
    return Quantized(published, best.precision, best.method, best.verdict)


def _describe_recording(bundle: Bundle, recording: Recording) -> dict[str, Any]:
    """Where the samples came from."""
    return {
        "samples": _count_frames(recording.runs),
        "recorded_from": describe_recording(bundle, recording.runs),
    }


def _count_frames(runs: Sequence[Run]) -> int:
    return sum(run.length for run in runs)
