"""The results of a benchmark, row by row, as data and as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["BenchResult", "BenchRow", "Proof", "align_table"]

COLUMNS = ("runtime", "precision", "batch", "p50 ms", "p90 ms", "p99 ms", "FPS", "ratio", "parity")
WORDS = ("runtime", "precision", "parity")
"""Columns that begin at their left edge; numbers end at their right one."""


@dataclass(frozen=True)
class Proof:
    """Whether a row is the same tracker as the reference; `relo-edge parity` has details."""

    passed: bool
    judged: bool
    """Whether the track was judged: not where the reference itself loses its target."""
    closed_loop_iou: float
    argmax_agreement: float
    failures: tuple[str, ...]


@dataclass(frozen=True)
class BenchRow:
    """One contender's time per frame; a frame is all that a tracker's update does."""

    runtime: str
    precision: str
    device: str
    batch: int
    """Targets in each step."""
    threads: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    jitter_ms: float
    """The mean difference between a frame and the next."""
    fps: float
    """Frames per second by the median, all targets in each."""
    stages_ms: dict[str, float]
    """Medians: decode, crop, copy_in, network, copy_out, decode_box; what a row has no part of is
    absent. `device` is the network by the device's own events."""
    overhead_ms: float | None
    """The median of all that is not the network; None of another tracker."""
    ratio_to_reference: float | None
    """How many times faster per target than the reference, in this run: the turns' median."""
    ratio_quartiles: tuple[float, float] | None
    """Between which half of the turns lie."""
    role: str
    """reference, candidate, or peer: another tracker, or another way to run this one."""
    parity: Proof | None
    """None for the reference, for another tracker, and where no reference opens."""
    end_to_end_fps: float | None
    """On the clip given, decoding included."""
    start_up_ms: float | None
    first_frame_ms: float | None
    peak_memory_mb: float | None
    joules_per_frame: float | None
    times_ms: list[float]
    """Every frame that was timed."""
    doubts: tuple[str, ...] = ()
    """Why its times and ratio are not to be trusted: a busy machine, turns that differ too much."""

    @property
    def passed(self) -> bool:
        """False only where parity was measured and failed."""
        return self.parity is None or self.parity.passed

    def describe_parity(self) -> str:
        """How the row compares with the reference, in a few words."""
        if self.role == "reference":
            return "the reference"
        if self.parity is None:
            return "another tracker" if self.role == "peer" else "not proven"
        verdict = "same tracker" if self.parity.passed else "NOT THE SAME TRACKER"
        if not self.parity.judged:
            verdict = "same outputs" if self.parity.passed else "OTHER OUTPUTS"
            return f"{verdict} (track not judged)"
        return f"{verdict} (IoU {self.parity.closed_loop_iou:.3f})"

    def list_cells(self) -> list[str]:
        """The row of the table; a ratio that is not to be trusted has a question mark."""
        times = (self.p50_ms, self.p90_ms, self.p99_ms, self.fps)
        ratio = _describe_ratio(self) + (" ?" if self.doubts else "")
        numbers = [f"{number:.1f}" for number in times]
        head = [self.runtime, self.precision, str(self.batch)]
        return [*head, *numbers, ratio, self.describe_parity()]


@dataclass(frozen=True)
class BenchResult:
    """Every row, and where it was measured."""

    environment: dict[str, Any]
    rows: list[BenchRow]
    interrupted: bool = False
    """Whether Ctrl-C ended it after the timing: what came later is missing."""

    @property
    def passed(self) -> bool:
        """Whether no row failed its parity."""
        return all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"passed": self.passed, "trusted": self.trusted, **asdict(self)}

    @property
    def trusted(self) -> bool:
        """Whether the machine was quiet enough for every row."""
        return not any(row.doubts for row in self.rows)

    def _describe_doubts(self) -> list[str]:
        reasons = dict.fromkeys(doubt for row in self.rows for doubt in row.doubts)
        if not reasons:
            return []
        return [f"this machine is busy: ratios are not to be trusted ({'; '.join(reasons)})"]

    def describe(self) -> str:
        """Two tables: speed with its proof, then what a frame and a start are made of."""
        lines = align_table([list(COLUMNS), *(row.list_cells() for row in self.rows)], WORDS)
        lines += self._describe_doubts()
        if self.interrupted:
            lines.append("interrupted after the timing: parity and start-up are not all measured")
        lines += ["", *(f"{_name_row(row)}  {_describe_parts(row)}" for row in self.rows)]
        for row in self.rows:
            if row.parity and row.parity.failures:
                lines.append(f"{_name_row(row)}  FAILED: {'; '.join(row.parity.failures)}")
        place = ", ".join(f"{key} {value}" for key, value in self.environment.items())
        return "\n".join([*lines, "", place])


def align_table(rows: list[list[str]], words: Sequence[str]) -> list[str]:
    """Columns as wide as their widest cell, two spaces apart; those named begin at their left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if title in words else cell.rjust(width)
            for cell, width, title in zip(row, widths, rows[0], strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _name_row(row: BenchRow) -> str:
    return f"{row.runtime:<22}{row.precision:<10}{row.batch:>5}"


def _describe_ratio(row: BenchRow) -> str:
    if row.ratio_to_reference is None or row.ratio_quartiles is None:
        return "-"
    low, high = row.ratio_quartiles
    return f"{row.ratio_to_reference:.2f} x ({low:.2f}-{high:.2f})"


def _describe_parts(row: BenchRow) -> str:
    """What else was measured of the row, in milliseconds unless said otherwise."""
    parts = [f"{name} {value:.2f}" for name, value in row.stages_ms.items()]
    parts += [f"min {row.min_ms:.1f}", f"jitter {row.jitter_ms:.1f}", f"threads {row.threads}"]
    more = {
        "overhead {:.2f}": row.overhead_ms,
        "end to end {:.1f} FPS": row.end_to_end_fps,
        "start {:.0f}": row.start_up_ms,
        "first frame {:.0f}": row.first_frame_ms,
        "peak {:.0f} MB": row.peak_memory_mb,
        "{:.3f} J a frame": row.joules_per_frame,
    }
    return ", ".join(parts + [text.format(value) for text, value in more.items() if value])
