"""A runtime that records when its network ran, for times by stage."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.runtime import ClosedOnExit, Runtime, StepResult

__all__ = ["TimedRuntime", "read_step_stages"]


@dataclass(eq=False)
class TimedRuntime(ClosedOnExit):
    """Passes everything on and records when each step began and ended."""

    inner: Runtime
    steps: list[tuple[float, float]] = field(default_factory=list)
    """Cleared by its reader."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: NDArray[np.float32] | None
    ) -> StepResult:
        """The inner runtime's answer."""
        start = time.perf_counter()
        answer = self.inner.step(slots, pixels, shared)
        self.steps.append((start, time.perf_counter()))
        return answer

    def close(self) -> None:
        """Close the runtime below."""
        self.inner.close()


def read_step_stages(runtime: Runtime) -> dict[str, float]:
    """Milliseconds of the last step's parts, of a runtime that knows them.

    Such a runtime has an attribute `step_stages_ms`: `copy_in` and `copy_out` by the clock on the
    wall, `device` by the device's own events. One that computes where its inputs lie has none.
    """
    stages: dict[str, float] = getattr(runtime, "step_stages_ms", {})
    return dict(stages)
