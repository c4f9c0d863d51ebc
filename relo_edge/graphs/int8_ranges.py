"""INT8 ranges found by training, and the JSON file in which `quantize` reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from relo_edge.errors import CalibrationError, InputError
from relo_edge.host.files import write_text
from relo_edge.host.json_files import read_json
from relo_edge.validation.schema import (
    Mismatch,
    check_file_name,
    check_flag,
    check_sha256,
    is_map,
    is_number,
    is_record,
    is_text,
)

__all__ = ["Int8Ranges", "read_ranges", "write_ranges"]

FORMAT = 1
FIX = "give the file that `relo-edge train qat` wrote beside its checkpoint"


_RANGES = is_record(
    {
        "variant": check_file_name,
        "weights": is_map(is_text(512), check_sha256, most=100),
        "attention": check_flag,
        "ranges": is_map(is_text(512), is_number(1e-30, 1e30)),
    }
)


@dataclass(frozen=True)
class Int8Ranges:
    """The magnitude that becomes 127, for each quantized tensor."""

    variant: str
    weights: Mapping[str, str]
    """The files that these ranges belong to, and their SHA-256."""
    attention: bool
    """Whether attention's own two products are among what is quantized."""
    ranges: Mapping[str, float]

    def __post_init__(self) -> None:
        if not self.weights or not self.ranges:
            raise ValueError("no weights, or no ranges")
        for tensor, value in self.ranges.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{tensor} {value}")


def write_ranges(path: Path, ranges: Int8Ranges) -> None:
    """Replace the file in one move."""
    write_text(path, json.dumps({"format": FORMAT, **asdict(ranges)}, indent=2) + "\n")


def read_ranges(path: Path) -> Int8Ranges:
    """Read and check the file.

    Raises:
        InputError: it cannot be opened.
        CalibrationError: it holds no ranges, is damaged, or of another version.
    """
    try:
        stored = read_json(path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened", found=error.strerror, fix=FIX) from None
    except ValueError:
        raise CalibrationError(f"{path}", found="no JSON", expected="ranges", fix=FIX) from None
    version = stored.get("format") if isinstance(stored, dict) else None
    if version != FORMAT:
        found = f"version {version}" if version is not None else "no ranges"
        raise CalibrationError(f"{path}", found=found, expected=f"version {FORMAT}", fix=FIX)
    try:
        _RANGES(stored)
        return Int8Ranges(**{f.name: stored[f.name] for f in fields(Int8Ranges)})
    except Mismatch as error:
        what = f"{path} is damaged, {error.place}"
        raise CalibrationError(what, found=error.found, expected=error.expected, fix=FIX) from None
    except ValueError as error:
        raise CalibrationError(
            f"{path} is damaged", found=error, expected="positive ranges", fix=FIX
        ) from None
