"""What bench, parity and eval left on disk, read back for a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.errors import InputError
from relo_edge.host.json_files import read_json
from relo_edge.validation.schema import (
    Mismatch,
    Schema,
    check_anything,
    check_flag,
    check_scalar,
    is_list,
    is_map,
    is_number,
    is_optional,
    is_record,
    is_text,
    is_whole,
)

__all__ = ["Findings", "read_findings"]

SUMMARY = "summary.json"

# What a report reads of each; the rest is left alone.
_WORD = is_text(1000)
_COUNT = is_whole(0, 1 << 40)
_MAYBE = is_optional(is_number())
_MILLISECONDS = is_number(0, 1e9)
_ERRORS = is_list(_WORD, longest=1000)

BENCH = is_record(
    {
        "environment": is_map(_WORD, check_scalar, most=100),
        "rows": is_list(
            is_record(
                {
                    "runtime": _WORD,
                    "precision": _WORD,
                    "batch": is_whole(1, 1 << 20),
                    "p50_ms": _MILLISECONDS,
                    "p90_ms": _MILLISECONDS,
                    "p99_ms": _MILLISECONDS,
                    "fps": is_number(0, 1e9),
                    "stages_ms": is_map(_WORD, is_optional(_MILLISECONDS), most=100),
                    "role": _WORD,
                    "ratio_to_reference": _MAYBE,
                    "parity": is_optional(
                        is_record(
                            {
                                "passed": check_flag,
                                "judged": check_flag,
                                "closed_loop_iou": _MAYBE,
                                "failures": _ERRORS,
                            }
                        )
                    ),
                    "times_ms": is_list(is_number(1e-9, 1e9), 1, 1_000_000),
                    "threads": check_scalar,
                },
                {"start_up_ms": _MAYBE, "peak_memory_mb": _MAYBE, "doubts": is_list(_WORD)},
            ),
            shortest=1,
        ),
    }
)
_FRAME = is_record({"frame": _COUNT, "iou": _MAYBE, "same_cell": check_flag})
_PICTURE = is_record({"jpeg": is_text(1 << 25), "clip": _WORD, "frame": _COUNT, "iou": _MAYBE})
PARITY = is_record(
    {
        "passed": check_flag,
        "runtime": _WORD,
        "precision": _WORD,
        "closed_loop_iou": _MAYBE,
        "argmax_agreement": _MAYBE,
        "failures": _ERRORS,
        "causes": is_list(is_record({"part": _WORD, "what": _WORD}), longest=1000),
        "clips": is_list(
            is_record({"name": _WORD, "frames": is_list(_FRAME, 1, 1_000_000)}), shortest=1
        ),
        "pictures": is_list(_PICTURE, longest=100),
        "frames": _COUNT,
        "judged_frames": _COUNT,
    },
    {"batch": is_whole(1, 1 << 20)},
)
_SHARES = is_list(is_number(), 1)
_CURVES = is_record(
    {
        "success": _SHARES,
        "precision": _SHARES,
        "thresholds": is_record({"overlap": _SHARES, "centre": _SHARES}),
    }
)
EVAL = is_record(
    {
        "dataset": _WORD,
        "auc": _MAYBE,
        "precision": _MAYBE,
        "norm_precision": _MAYBE,
        "curves": is_optional(_CURVES),
        "run": is_map(_WORD, check_anything),
        "sequences": is_map(_WORD, check_anything, most=1_000_000),
    },
    {
        **dict.fromkeys(("ao", "sr50", "sr75", "fps"), _MAYBE),
        **dict.fromkeys(("tracker", "dataset_name"), _WORD),
    },
)

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
    return _read(path, BENCH, "what `relo-edge bench --json` prints")


def _read_parity(path: Path) -> Plain:
    return _read(path, PARITY, "what `relo-edge parity --json` prints")


def _read_eval(path: Path) -> Plain:
    what = f"a folder of `relo-edge eval`, with its {SUMMARY}"
    file = path / SUMMARY if path.is_dir() else path
    found = _read(file, EVAL, what)
    curves = found["curves"]
    for axis, curve in (("overlap", "success"), ("centre", "precision")):
        if curves and len(curves["thresholds"][axis]) != len(curves[curve]):
            raise InputError(
                f"{file}: curves.{curve}", found="more or fewer values than thresholds"
            )
    return found


def _read(path: Path, schema: Schema, expected: str) -> Plain:
    """The file's content, once all that a report reads of it is there and of its type."""
    try:
        plain = read_json(path)
        schema(plain)
    except FileNotFoundError:
        found = "no such file"
    except Mismatch as error:
        found = str(error)
    except OSError as error:
        found = error.strerror or type(error).__name__
    except ValueError as error:
        found = str(error)
    else:
        return dict(plain)
    raise InputError(f"{path}", found=found, expected=expected)
