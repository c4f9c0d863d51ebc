"""What a benchmark found, row by row, for a program and for a reader."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["BenchResult", "BenchRow", "Proof"]

COLUMNS = ("p50 ms", "p90 ms", "p99 ms", "FPS")


@dataclass(frozen=True)
class Proof:
    """Whether a row is the same tracker as the reference; `relo-edge parity` tells more."""

    passed: bool
    judged: bool
    """Whether the track was: not where the reference itself does not track the clips."""
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
    """None of the reference itself, of another tracker, and where no reference opens."""
    end_to_end_fps: float | None
    """On the clip given, decoding included."""
    start_up_ms: float | None
    first_frame_ms: float | None
    peak_memory_mb: float | None
    joules_per_frame: float | None
    times_ms: list[float]
    """Every frame that was timed."""

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it being the same tracker."""
        return self.parity is None or self.parity.passed

    def describe_parity(self) -> str:
        """A word on what the row has to do with the reference."""
        if self.role == "reference":
            return "the reference"
        if self.parity is None:
            return "another tracker" if self.role == "peer" else "not proven"
        verdict = "same tracker" if self.parity.passed else "NOT THE SAME TRACKER"
        if not self.parity.judged:
            verdict = "same outputs" if self.parity.passed else "OTHER OUTPUTS"
            return f"{verdict} (track not judged)"
        return f"{verdict} (IoU {self.parity.closed_loop_iou:.3f})"


@dataclass(frozen=True)
class BenchResult:
    """Every row, and where it was measured."""

    environment: dict[str, Any]
    rows: list[BenchRow]

    @property
    def passed(self) -> bool:
        """Whether every row is the same tracker, as far as is known."""
        return all(row.passed for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"passed": self.passed, **asdict(self)}

    def describe(self) -> str:
        """Two tables: speed with its proof, then what a frame and a start are made of."""
        head = f"{'runtime':<22}{'precision':<10}{'batch':>5}"
        title = "".join(f"{name:>9}" for name in COLUMNS)
        lines = [f"{head}{title}{'ratio':>19}  parity"]
        for row in self.rows:
            times = (row.p50_ms, row.p90_ms, row.p99_ms, row.fps)
            numbers = "".join(f"{number:>9.1f}" for number in times)
            ratio = _describe_ratio(row)
            lines.append(f"{_name_row(row)}{numbers}{ratio:>19}  {row.describe_parity()}")
        lines += ["", *(f"{_name_row(row)}  {_describe_parts(row)}" for row in self.rows)]
        for row in self.rows:
            if row.parity and row.parity.failures:
                lines.append(f"{_name_row(row)}  FAILED: {'; '.join(row.parity.failures)}")
        place = ", ".join(f"{key} {value}" for key, value in self.environment.items())
        return "\n".join([*lines, "", place])


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
