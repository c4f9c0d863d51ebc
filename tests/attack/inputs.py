"""Files that the verbs read beside bundles and checkpoints: ranges, measurements, boxes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import Act, Attack, run_words
from mutations import RAW, spoil

from relo_edge.graphs.int8_ranges import read_ranges
from relo_edge.tracking.targets import gather_starts

Use = Callable[[Path], Act]

RANGES = {
    "format": 1,
    "variant": "demo",
    "weights": {"a.safetensors": "0" * 64},
    "attention": False,
    "ranges": {"pixels/centred": 127.0},
}
STAGES = {"crop": 0.1, "network": 1.0, "decode": 0.1}
BENCH = {
    "environment": {"cpu": "a", "python": "3.11"},
    "rows": [
        {
            "runtime": "onnxruntime",
            "precision": "fp32",
            "batch": 1,
            "p50_ms": 1.0,
            "p90_ms": 1.1,
            "p99_ms": 1.2,
            "fps": 900.0,
            "stages_ms": STAGES,
            "role": "candidate",
            "ratio_to_reference": 1.0,
            "parity": {"passed": True, "judged": True, "closed_loop_iou": 1.0, "failures": []},
            "times_ms": [1.0, 1.1],
            "threads": 1,
        }
    ],
}
ERROR = {"max_abs": 0.0, "relative": 0.0, "cosine": 1.0}
PARITY = {
    "passed": True,
    "runtime": "onnxruntime",
    "precision": "fp32",
    "closed_loop_iou": 1.0,
    "argmax_agreement": 1.0,
    "failures": [],
    "causes": [{"part": "a", "what": "b"}],
    "clips": [{"name": "a", "frames": [{"frame": 1, "iou": 1.0, "same_cell": True, "errors": {}}]}],
    "pictures": [{"jpeg": "AAAA", "clip": "a", "frame": 1, "iou": 0.5}],
    "outputs": {"box": ERROR},
    "frames": 1,
    "judged_frames": 1,
}
CURVES = {
    "success": [1.0] * 3,
    "precision": [1.0] * 3,
    "thresholds": {"overlap": [0.0, 0.5, 1.0], "centre": [0.0, 20.0, 50.0]},
}
FIGURES = dict.fromkeys(("auc", "precision", "norm_precision", "ao", "sr50", "sr75"), 0.5)
FIGURES |= {"frames": 5, "scored": 4}
EVAL = {
    "dataset": "a",
    "auc": 0.5,
    "precision": 0.5,
    "norm_precision": 0.5,
    "ao": 0.5,
    "sr50": 0.5,
    "sr75": 0.5,
    "fps": 10.0,
    "curves": CURVES,
    "run": {"runtime": "onnxruntime", "precision": "fp32"},
    "sequences": {"one": FIGURES},
}
STARTS = [{"frame": 0, "target": "a", "x": 1.0, "y": 1.0, "w": 9.0, "h": 9.0}]


def list_attacks() -> Iterator[Attack]:
    """Every one of this kind."""
    for kind, (plain, use, leaves) in KINDS.items():
        for name, changed in spoil(plain):
            text = json.dumps(changed).encode(errors="surrogatepass")
            yield Attack(f"{kind} {name}", _write(text, use), leaves=leaves)
        for name, content in RAW.items():
            yield Attack(f"{kind} {name}", _write(content, use), must_fail=True)


def _write(content: bytes, use: Use) -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        path = folder / "input.json"
        path.write_bytes(content)
        return use(path)

    return prepare


def _report(option: str) -> Use:
    return lambda path: run_words("report", option, path, "-o", path.with_name("report.html"))


def _compare(path: Path) -> Act:
    for name in ("first", "second"):
        folder = path.with_name(name)
        folder.mkdir()
        (folder / "summary.json").write_bytes(path.read_bytes())
    return run_words("compare", path.with_name("first"), path.with_name("second"))


REPORT = ("report.html",)
KINDS: dict[str, tuple[Any, Use, tuple[str, ...]]] = {
    "ranges": (RANGES, lambda path: lambda: read_ranges(path), ()),
    "bench": (BENCH, _report("--bench"), REPORT),
    "parity": (PARITY, _report("--parity"), REPORT),
    "eval": (EVAL, _report("--eval"), REPORT),
    "compare": (EVAL, _compare, ()),
    "starts": (STARTS, lambda path: lambda: gather_starts([], path, 0), ()),
}
