"""A Jetson's power, read from its rails by `tegrastats`."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from types import TracebackType

__all__ = ["PowerMeter", "parse_power"]

INTERVAL_MS = 100

# The whole module's rail: Orin NX and Nano, TX2, Xavier NX; the first Nano.
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN")

# AGX boards have none: what they draw is the sum of these (Orin, then Xavier).
PART_RAILS = {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"}
PART_RAILS |= {"GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"}

RAIL = re.compile(r"\b([A-Z][A-Z0-9_]*) (\d+)(?:mW)?/\d+(?:mW)?(?=\s|$)")


def parse_power(line: str) -> float | None:
    """The watts in one line of `tegrastats`; None where it names no rail."""
    rails = {name: int(value) / 1e3 for name, value in RAIL.findall(line)}
    for name in TOTAL_RAILS:
        if name in rails:
            return rails[name]
    parts = [watts for name, watts in rails.items() if name in PART_RAILS]
    return sum(parts) if parts else None


class PowerMeter:
    """Reads the board's power in the background; where there is no `tegrastats`, nothing."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, float]] = []
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> PowerMeter:
        if shutil.which("tegrastats"):
            command = ["tegrastats", "--interval", str(INTERVAL_MS)]
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()
            self._reader.join()

    def measure_watts(self, start: float, end: float) -> float | None:
        """The mean between two moments of `time.perf_counter`; None without a sample there."""
        drawn = [watts for moment, watts in self._samples if start <= moment <= end]
        return sum(drawn) / len(drawn) if drawn else None

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                watts = parse_power(line)
                if watts is not None:
                    self._samples.append((time.perf_counter(), watts))
