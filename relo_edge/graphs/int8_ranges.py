"""INT8 ranges found by training, and the JSON file in which `quantize` reads them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from relo_edge.errors import CalibrationError, InputError
from relo_edge.host.files import write_text

__all__ = ["Int8Ranges", "read_ranges", "write_ranges"]

FORMAT = 1
FIX = "give the file that `relo-edge train qat` wrote beside its checkpoint"


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
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be opened", found=error.strerror, fix=FIX) from None
    except ValueError:
        raise CalibrationError(f"{path}", found="no JSON", expected="ranges", fix=FIX) from None
    version = stored.get("format") if isinstance(stored, dict) else None
    if version != FORMAT:
        found = f"version {version}" if version is not None else "no ranges"
        raise CalibrationError(f"{path}", found=found, expected=f"version {FORMAT}", fix=FIX)
    try:
        weights = {str(name): str(digest) for name, digest in stored["weights"].items()}
        ranges = {str(name): float(value) for name, value in stored["ranges"].items()}
        return Int8Ranges(str(stored["variant"]), weights, stored["attention"] is True, ranges)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise CalibrationError(
            f"{path} is damaged", found=error, expected="positive ranges", fix=FIX
        ) from None
