"""From a float32 bundle to one with an INT8, FP8 or FP16 graph, kept only when its gate is met."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from relo_edge.bundle import Bundle, describe_files
from relo_edge.calibration.bf16_attention import emulate_bf16
from relo_edge.calibration.cache_key import describe_recording
from relo_edge.calibration.candidates import (
    Candidate,
    Quantized,
    count_frames,
    describe_source,
    judge_candidate,
    publish_best,
    write_candidate,
)
from relo_edge.calibration.engine_graphs import add_engine_graphs
from relo_edge.calibration.fp8 import list_fp8_products, quantize_fp8_graph
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
from relo_edge.contract import PIXEL_REACH, PIXELS, list_graphs
from relo_edge.errors import InputError, MissingDependency
from relo_edge.graphs.saving import save_graph
from relo_edge.host.files import find_cache
from relo_edge.host.progress import show_progress

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = [
    "METHOD_NAMES",
    "QUICK_FRAMES",
    "QUICK_METHOD",
    "add_precision",
    "check_method",
    "plan_stages",
    "quantize_fp8",
    "quantize_fp16",
    "quantize_int8",
    "record_clips",
    "require_packages",
]

log = logging.getLogger("relo_edge")

METHOD_NAMES = ("auto", *METHODS)
QUICK_FRAMES, QUICK_METHOD = 60, "percentile"
FP8_METHOD = "minmax"
"""A float's steps shrink with its values: clipping the largest would gain the others nothing."""

QuantizeGraph = Callable[["ModelProto", Iterable[str], dict[str, float]], "ModelProto"]
QUANTIZERS: dict[str, QuantizeGraph] = {"int8": quantize_graph, "fp8": quantize_fp8_graph}


def record_clips(bundle: Bundle, clips: Sequence[str], frames: int = FRAMES) -> Recording:
    """What the graphs see while the float tracker tracks; cached for a second call."""
    runs = plan_runs(find_clips(clips), frames)
    identity = json.dumps(describe_recording(bundle, runs))
    folder = find_cache() / "recordings" / sha256(identity.encode()).hexdigest()[:24]
    missing = [run for _, run in Recording(folder, tuple(runs)).list_missing()]
    with show_progress("recording", count_tracked(missing), kept=True) as advance:
        return record_samples(bundle, runs, folder, advance)


def add_precision(bundle: Bundle, precision: str, record: Callable[[Bundle], Recording]) -> Bundle:
    """The bundle with that precision's graphs in it; `record` is called only if one is missing."""
    if precision in bundle.precisions:
        return bundle
    require_packages()
    return ADD[precision](bundle, record(bundle)).bundle


def require_packages() -> None:
    """Say at once what is missing: the long recording before quantization needs only one of them.

    Raises:
        MissingDependency: onnx or onnxruntime is not installed.
    """
    for package in ("onnx", "onnxruntime"):
        if find_spec(package) is None:
            fix = "`pip install 'relo-edge[export]'`"
            raise MissingDependency(f"{package} is not installed", fix=fix)


def plan_stages(
    bundle: Bundle, precision: str, method: str, *, search: bool, smooth: bool, trained: bool
) -> int | None:
    """How many stages show their progress; a search finds out by itself how many it takes."""
    if search:
        return None
    graphs = len(list_graphs(bundle.variant))
    recorded_and_judged = 2
    if precision == "fp16" or trained:  # ranges of each float graph, or of each in half
        return recorded_and_judged + graphs
    if precision == "fp8":
        return recorded_and_judged + 1 + graphs
    others = len(METHODS) - 1 if method == "auto" else 0
    smoothed = 3 if smooth else 0  # the outlier channels, their ranges, a judgement
    return recorded_and_judged + 1 + others + smoothed + graphs


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
    smooth: bool = True,
) -> Quantized:
    """Add an INT8 step graph: of several methods, the one closest to float32.

    The best of them is tried with smoothed norms as well, unless `smooth` is false. With `search`,
    each part's own cost is measured, and the costliest stay float32 until the gate is met.
    """
    check_method(method)
    with TemporaryDirectory() as scratch:
        names = list(METHODS) if method == "auto" else [method]
        source = _Source.measure(recording, bundle.graph("step"), list_products, attention)
        maker = _CandidateMaker(bundle, recording, Path(scratch), "int8")
        candidates = [maker.make(source, name, name, source.products) for name in names]
        best = max(candidates, key=lambda candidate: candidate.score)
        if smooth:
            graph, name = maker.smooth_graph(source.graph), best.method
            smoothed = _Source.measure(recording, graph, list_products, attention)
            other = maker.make(smoothed, name, f"{name} smoothed", smoothed.products)
            if other.score > best.score:
                source, best = smoothed, other
        if search:
            best = maker.search(source, best)
        return publish_best(bundle, [best], recording)


def quantize_fp8(bundle: Bundle, recording: Recording, *, attention: bool = False) -> Quantized:
    """Add an FP8 (E4M3) step graph, which GPUs of compute capability 8.9 and newer run."""
    graph = bundle.graph("step")
    with TemporaryDirectory() as scratch:
        maker = _CandidateMaker(bundle, recording, Path(scratch), "fp8")
        source = _Source.measure(recording, graph, list_fp8_products, attention)
        candidate = maker.make(source, FP8_METHOD, FP8_METHOD, source.products)
        return publish_best(bundle, [candidate], recording)


def quantize_fp16(
    bundle: Bundle, recording: Recording, *, bf16_attention: bool = False
) -> Quantized:
    """Add FP16 graphs; what stays float32 in them, and why, goes into the bundle.

    With `bf16_attention`, engines are built from a graph of their own, which the FP16 graph
    emulates for runtimes without bfloat16.
    """
    import onnx

    feeds = {"template": recording.template_feeds, "step": recording.step_feeds}
    converted = {}
    for name in list_graphs(bundle.variant):
        path = bundle.graph(name)
        with show_progress(f"ranges of {path.name}", unit="samples") as advance:
            ranges = measure_ranges(path, feeds[name](), advance)
        model = onnx.load(path)
        converted[name] = convert_fp16(model, bundle.variant, ranges, bf16_attention=bf16_attention)
    kept = {name: dict(graph.kept) for name, graph in converted.items()}
    notes = {"kept_in_float32": kept, **describe_source(bundle, recording)}
    state_dtype = converted["step"].state_dtype
    models = {name: graph.model for name, graph in converted.items()}
    method, gate = "measured ranges", None
    if bf16_attention:
        models["step"] = emulate_bf16(models["step"])
        method, gate = "measured ranges, attention in bfloat16", "bf16"
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "fp16"
        written = write_candidate(bundle, folder, "fp16", models, notes, state_dtype)
        if bf16_attention:
            written = add_engine_graphs(written, "fp16", converted, "bf16")
        judged = judge_candidate(bundle, written, "fp16", method, recording, gate)
        return publish_best(bundle, [judged], recording)


@dataclass(frozen=True)
class _Source:
    """A float graph to quantize, and the spread of its activations."""

    graph: Path
    products: list[str]
    spreads: dict[str, Spread]

    @classmethod
    def measure(
        cls,
        recording: Recording,
        graph: Path,
        choose: Callable[..., list[str]],
        attention: bool,
    ) -> _Source:
        """Run the graph over the recording, for the products chosen."""
        import onnx

        model = onnx.load(graph)
        products = choose(model, attention=attention)
        tensors = list_activations(model, products)
        with show_progress(f"ranges of {graph.name}", count_frames(recording.runs)) as advance:
            feeds = recording.step_feeds()
            spreads = collect_spreads(graph, tensors, feeds, advance)
        return cls(graph, products, spreads)


@dataclass
class _CandidateMaker:
    """Makes Q/DQ candidates of one precision, each in a folder of its own below `scratch`."""

    bundle: Bundle
    recording: Recording
    scratch: Path
    precision: str
    _count: int = field(default=0)

    def make(self, source: _Source, method: str, title: str, products: Iterable[str]) -> Candidate:
        """Quantize these products of the source, and judge the result."""
        import onnx

        thresholds = {name: s.find_threshold(method) for name, s in source.spreads.items()}
        if PIXELS in thresholds:
            thresholds[PIXELS] = PIXEL_REACH
        quantized = QUANTIZERS[self.precision](onnx.load(source.graph), products, thresholds)
        notes = {"method": title, "thresholds": thresholds}
        notes |= describe_source(self.bundle, self.recording)
        self._count += 1
        folder, models = self.scratch / f"candidate-{self._count}", {"step": quantized}
        written = write_candidate(self.bundle, folder, self.precision, models, notes)
        return judge_candidate(self.bundle, written, self.precision, title, self.recording)

    def smooth_graph(self, graph: Path) -> Path:
        """The same function with its norms' outlier channels moved into the weights."""
        import onnx

        model = onnx.load(graph)
        norms = list_norms(model)
        with show_progress("outlier channels", count_frames(self.recording.runs)) as advance:
            peaks = collect_peaks(graph, norms, self.recording.step_feeds(), advance)
        smooth_norms(model, peaks)
        path = self.scratch / "smoothed.onnx"
        save_graph(model, path)
        return path

    def search(self, source: _Source, whole: Candidate) -> Candidate:
        """Measure each part alone, take out what the gate demands, and keep table and plot."""
        method = whole.method.split()[0]

        def make(title: str, products: Iterable[str]) -> Candidate:
            return self.make(source, method, f"{whole.method}, {title}", products)

        parts = group_products(source.products)
        costs = measure_costs(parts, make)
        best, kept = keep_costly_parts(costs, parts, whole, make)
        files = write_costs(costs, kept, best.bundle.path)
        best.bundle.manifest["files"].update(describe_files(best.bundle.path, *files))
        return best


ADD: dict[str, Callable[[Bundle, Recording], Quantized]] = {
    "int8": quantize_int8,
    "fp8": quantize_fp8,
    "fp16": quantize_fp16,
}
