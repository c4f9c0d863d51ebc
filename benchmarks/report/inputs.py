"""What bench, parity and eval left on disk, read back for a report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.errors import InputError

__all__ = ["Findings", "read_findings"]

SUMMARY = "summary.json"

# Of each kind the keys that a report reads, and of its parts likewise.
BENCH = "environment rows"
ROW = "runtime precision batch p50_ms p90_ms p99_ms fps stages_ms role ratio_to_reference parity "
ROW += "times_ms threads"
PROOF = "passed judged closed_loop_iou failures"
PARITY = "passed runtime precision closed_loop_iou argmax_agreement failures causes clips pictures "
PARITY += "outputs frames judged_frames"
CLIP = "name frames"
FRAME = "frame iou same_cell errors"
EVAL = "dataset auc precision norm_precision curves run sequences"

Plain = dict[str, Any]


@dataclass(frozen=True)
class Findings:
    """Plain data as the verbs wrote it, its keys known to be there."""

    bench: Plain | None
    parities: list[Plain]
    evals: list[Plain]


def read_findings(bench: Path | None, parities: list[Path], evals: list[Path]) -> Findings:
    """Every file, or one line on the first that is not what its verb writes."""
    if bench is None and not parities and not evals:
        raise InputError("report", found="nothing to show", expected="--bench, --parity or --eval")
    return Findings(
        _read_bench(bench) if bench else None,
        [_read_parity(path) for path in parities],
        [_read_eval(path) for path in evals],
    )


def _read_bench(path: Path) -> Plain:
    what = "what `relo-edge bench --json` prints"
    found = _check_keys(_read_json(path, what), BENCH, path, what)
    for row in _check_list(found["rows"], path, what):
        _check_keys(row, ROW, path, what)
        if row["parity"] is not None:
            _check_keys(row["parity"], PROOF, path, what)
    return found


def _read_parity(path: Path) -> Plain:
    what = "what `relo-edge parity --json` prints"
    found = _check_keys(_read_json(path, what), PARITY, path, what)
    for clip in _check_list(found["clips"], path, what):
        for frame in _check_list(_check_keys(clip, CLIP, path, what)["frames"], path, what):
            _check_keys(frame, FRAME, path, what)
    return found


def _read_eval(path: Path) -> Plain:
    what = f"a folder of `relo-edge eval`, with its {SUMMARY}"
    file = path / SUMMARY if path.is_dir() else path
    return _check_keys(_read_json(file, what), EVAL, file, what)


def _read_json(path: Path, expected: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = "no such file"
    except IsADirectoryError:
        found = "a folder"
    except (OSError, ValueError) as error:
        found = f"{type(error).__name__}: {error}"
    raise InputError(f"{path}", found=found, expected=expected)


def _check_keys(plain: Any, keys: str, path: Path, expected: str) -> Plain:
    missing = [key for key in keys.split() if not isinstance(plain, dict) or key not in plain]
    if missing:
        raise InputError(f"{path}", found=f"no {missing[0]!r} in it", expected=expected)
    return dict(plain)


def _check_list(plain: Any, path: Path, expected: str) -> list[Any]:
    if not isinstance(plain, list) or not plain:
        raise InputError(f"{path}", found="an empty result", expected=expected)
    return plain
