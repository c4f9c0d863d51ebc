"""What is said of engines once they are built: on a GPU, also whether they are worth it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = ["EngineReport", "Measured", "judge_speed"]

WORTH_IT = 1.05
"""A lower precision that gains less is not worth its errors."""


class Part(Protocol):
    """Anything with an account of its own."""

    def to_dict(self) -> dict[str, Any]: ...

    def describe(self) -> str: ...


@dataclass(frozen=True)
class Measured:
    """What only a GPU can tell."""

    parity: Part
    passed: bool
    speed: Part
    milliseconds: Mapping[str, float]
    """Of a step, by the precision of the engines built here."""
    layers: Part
    batch: int = 1
    """Targets in that step."""

    @property
    def verdict(self) -> str:
        """Which precision to use."""
        return judge_speed(self.milliseconds, self.batch)


@dataclass(frozen=True)
class EngineReport:
    """Engines, and what was measured of them where they can run."""

    built: Part
    measured: Measured | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = self.built.to_dict()
        if self.measured:
            plain["parity"] = self.measured.parity.to_dict()
            plain["bench"] = self.measured.speed.to_dict()
            plain["layers"] = self.measured.layers.to_dict()
            plain["verdict"] = self.measured.verdict
        return plain

    def describe(self) -> str:
        """The engines, then parity, layers, times and the verdict."""
        parts = [self.built.describe()]
        if self.measured:
            told = (self.measured.parity, self.measured.layers, self.measured.speed)
            parts += [part.describe() for part in told] + [self.measured.verdict]
        return "\n".join(parts)


def judge_speed(milliseconds: Mapping[str, float], batch: int = 1) -> str:
    """Whether INT8 gains anything over FP16 on this GPU; for many ViTs it does not."""
    size = f" --batch {batch}" if batch > 1 else ""
    place = f" at batch {batch}" if batch > 1 else ""
    half, eight = milliseconds.get("fp16"), milliseconds.get("int8")
    if half is None or eight is None:
        missing = "fp16" if half is None else "int8"
        return f"build --{missing}{size} too, to know whether INT8 is worth it on this GPU"
    ratio = half / eight
    if ratio >= WORTH_IT:
        return f"INT8 is {ratio:.2f} x FP16 here{place}"
    return f"use FP16: INT8 is no faster on this GPU{place} ({ratio:.2f} x)"
