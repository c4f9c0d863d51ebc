"""From a float32 bundle to one with an INT8 or FP16 graph, kept only when the gate is met."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from relo_edge.bundle import Bundle, describe_files
from relo_edge.calibration.cache_key import describe_recording
from relo_edge.calibration.candidates import (
    Attempt,
    Quantized,
    count_frames,
    describe_source,
    judge_candidate,
    publish_best,
    write_candidate,
)
from relo_edge.calibration.fp16 import convert_fp16
from relo_edge.calibration.fp16_ranges import measure_ranges
from relo_edge.calibration.plan import FRAMES, plan_runs
from relo_edge.calibration.quantizer import list_activations, list_products, quantize_graph
from relo_edge.calibration.recording import Recording, count_tracked, record_samples
from relo_edge.calibration.sensitivity import (
    group_products,
    keep_costly_parts,
    measure_costs,
    write_costs,
)
from relo_edge.calibration.smoothing import list_norms, smooth_norms
from relo_edge.calibration.thresholds import METHODS, Spread, collect_peaks, collect_spreads
from relo_edge.clips.clip import find_clips
from relo_edge.contract import GRAPHS, PIXEL_REACH, PIXELS
from relo_edge.errors import InputError
from relo_edge.host.files import find_cache
from relo_edge.host.progress import show_progress

__all__ = ["METHOD_NAMES", "check_method", "quantize_fp16", "quantize_int8", "record_clips"]

log = logging.getLogger("relo_edge")

METHOD_NAMES = ("auto", *METHODS)


def record_clips(bundle: Bundle, clips: Sequence[str], frames: int = FRAMES) -> Recording:
    """What the graphs see while the float tracker tracks; cached for a second call."""
    runs = plan_runs(find_clips(clips), frames)
    identity = json.dumps(describe_recording(bundle, runs))
    folder = find_cache() / "recordings" / sha256(identity.encode()).hexdigest()[:24]
    with show_progress("recording", count_tracked(runs)) as advance:
        return record_samples(bundle, runs, folder, advance)


def check_method(method: str) -> None:
    """Refuse an unknown one, if need be before the long recording."""
    if method not in METHOD_NAMES:
        raise InputError("method", found=method, expected=" | ".join(METHOD_NAMES))


def quantize_int8(
    bundle: Bundle,
    recording: Recording,
    method: str = "auto",
    *,
    attention: bool = False,
    search: bool = False,
) -> Quantized:
    """Add an INT8 step graph: of several methods, plain and smoothed, the one closest to float32.

    With `search`, every part's own cost is measured, and the costliest stay float32 until the gate
    is met.
    """
    check_method(method)
    with TemporaryDirectory() as scratch:
        names = list(METHODS) if method == "auto" else [method]
        plain = _Source.measure(recording, bundle.graph("step"), names, attention)
        workshop = _Workshop(bundle, recording, Path(scratch))
        attempts = [workshop.attempt(plain, name, name, plain.products) for name in names]
        best = max(attempts, key=lambda attempt: attempt.score)
        smoothed = workshop.smooth_graph(plain.graph)
        smooth = _Source.measure(recording, smoothed, [best.method], attention)
        again = workshop.attempt(smooth, best.method, f"{best.method} smoothed", smooth.products)
        source = plain if best.score >= again.score else smooth
        best = max(best, again, key=lambda attempt: attempt.score)
        if search:
            best = workshop.search(source, best)
        return publish_best(bundle, [best])


def quantize_fp16(bundle: Bundle, recording: Recording) -> Quantized:
    """Add FP16 graphs; what stays float32 in them, and why, goes into the bundle."""
    import onnx

    feeds = {"template": recording.template_feeds, "step": recording.step_feeds}
    graphs, kept, state_dtype = {}, {}, "float32"
    for name in GRAPHS:
        path = bundle.graph(name)
        log.info("ranges of the %s graph", name)
        half = convert_fp16(onnx.load(path), bundle.variant, measure_ranges(path, feeds[name]()))
        graphs[name], kept[name] = half.model, dict(half.kept)
        if name == "step":
            state_dtype = half.state_dtype
    notes = {"kept_in_float32": kept, **describe_source(bundle, recording)}
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fp16"
        candidate = write_candidate(bundle, folder, "fp16", graphs, notes, state_dtype)
        attempt = judge_candidate(bundle, candidate, "fp16", "by measured ranges", recording)
        return publish_best(bundle, [attempt])


@dataclass(frozen=True)
class _Source:
    """A float graph to quantize, and how its activations are spread."""

    graph: Path
    products: list[str]
    spreads: dict[str, Spread]

    @classmethod
    def measure(
        cls, recording: Recording, graph: Path, methods: Collection[str], attention: bool
    ) -> _Source:
        """Run the graph over the recording, for these methods."""
        import onnx

        model = onnx.load(graph)
        products = list_products(model, attention=attention)
        tensors = list_activations(model, products)
        entropy = "entropy" in methods
        with show_progress(f"ranges of {graph.name}", count_frames(recording.runs)) as advance:
            feeds = recording.step_feeds()
            spreads = collect_spreads(graph, tensors, feeds, advance, entropy=entropy)
        return cls(graph, products, spreads)


@dataclass
class _Workshop:
    """Where attempts are made: each in a folder of its own, all gone in the end."""

    bundle: Bundle
    recording: Recording
    scratch: Path
    _count: int = field(default=0)

    def attempt(self, source: _Source, method: str, title: str, products: Iterable[str]) -> Attempt:
        """Quantize these products of the source and judge what comes of it."""
        import onnx

        thresholds = {name: s.find_threshold(method) for name, s in source.spreads.items()}
        thresholds[PIXELS] = PIXEL_REACH
        quantized = quantize_graph(onnx.load(source.graph), products, thresholds)
        notes = {"method": title, "thresholds": thresholds}
        notes |= describe_source(self.bundle, self.recording)
        self._count += 1
        folder = self.scratch / f"attempt-{self._count}"
        candidate = write_candidate(self.bundle, folder, "int8", {"step": quantized}, notes)
        return judge_candidate(self.bundle, candidate, "int8", title, self.recording)

    def smooth_graph(self, graph: Path) -> Path:
        """The same function with its norms' outlier channels moved into the weights."""
        import onnx

        model = onnx.load(graph)
        norms = list_norms(model)
        with show_progress("outlier channels", count_frames(self.recording.runs)) as advance:
            peaks = collect_peaks(graph, norms, self.recording.step_feeds(), advance)
        smooth_norms(model, peaks)
        path = self.scratch / "smoothed.onnx"
        onnx.save(model, path)
        return path

    def search(self, source: _Source, whole: Attempt) -> Attempt:
        """Measure every part alone, take out what the gate demands, and keep table and plot."""
        method = whole.method.split()[0]

        def attempt(title: str, products: Iterable[str]) -> Attempt:
            return self.attempt(source, method, f"{whole.method}, {title}", products)

        parts = group_products(source.products)
        costs = measure_costs(parts, attempt)
        best, kept = keep_costly_parts(costs, parts, whole, attempt)
        files = write_costs(costs, kept, best.candidate.path)
        best.candidate.manifest["files"].update(describe_files(best.candidate.path, *files))
        return best
