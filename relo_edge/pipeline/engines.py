"""TensorRT engines from a bundle: `relo-edge build-engine`, its Python twin and its report."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relo_edge.bundle import Bundle
from relo_edge.contract import list_graphs
from relo_edge.errors import RuntimeUnavailable
from relo_edge.pipeline.engine_healing import build_and_measure
from relo_edge.pipeline.engine_times import Measured, Part, judge_speed
from relo_edge.runtime import resolve_bundle

if TYPE_CHECKING:
    from relo_edge.calibration.recording import Recording
    from relo_edge.runtimes.tensorrt.engines import BuiltEngines, Target

__all__ = ["EngineReport", "Measured", "build_engines", "judge_speed"]

log = logging.getLogger("relo_edge")


@dataclass(frozen=True)
class EngineReport:
    """Engines, and what was measured of them where they can run."""

    built: Part
    measured: Measured | None
    xrays: tuple[Part, ...] = ()
    """What each engine consists of, where that was asked for."""

    @property
    def passed(self) -> bool:
        """Whether nothing that was measured speaks against the engines."""
        return self.measured is None or self.measured.passed

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = self.built.to_dict()
        if self.measured:
            plain["parity"] = self.measured.parity.to_dict() if self.measured.parity else None
            plain["gpu_ms"] = dict(self.measured.milliseconds)
            plain["bench"] = self.measured.speed.to_dict()
            plain["layers"] = self.measured.layers.to_dict()
            plain["verdict"] = self.measured.verdict
        if self.xrays:
            plain["xrays"] = [xray.to_dict() for xray in self.xrays]
        return plain

    def describe(self) -> str:
        """The engines, then parity, layers, times and the verdict."""
        parts = [self.built.describe(), *(xray.describe() for xray in self.xrays)]
        if self.measured:
            parity = self.measured.parity
            parts.append(parity.describe() if parity else "parity: no reference opens here")
            parts += [self.measured.layers.describe(), self.measured.speed.describe()]
            parts.append(self.measured.verdict)
        return "\n".join(parts)


def build_engines(
    bundle: str | Path | Bundle,
    precision: str = "fp16",
    *,
    batch: int | str = 1,
    clips: Sequence[str] = (),
    library: str | None = None,
    compatible: str | None = None,
    explain: bool = False,
    measure: bool = True,
) -> EngineReport:
    """Build the TensorRT engines of one precision; graphs that are missing are made first.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`.
        precision: fp16, int8, fp8 or fp32.
        batch: how many targets step together: a number, several as `1,4,8`, or a range as `1-8`
            for one engine that takes any of them.
        clips: what to calibrate with if a graph is missing, as for `quantize_bundle`.
        library: tensorrt or tensorrt-rtx; the one that fits the GPU if None.
        compatible: version or hardware: an engine that others can run, and a slower one.
        explain: whether to list the kernels of each engine; TensorRT for RTX tells them.
        measure: whether to measure what was built, where there is a GPU.

    Returns:
        The engines and, on a machine with a GPU, their parity, times and verdict. Where parity
        fails, they are built again with more exact attention; what never passes is not kept.

    Raises:
        MissingDependency: TensorRT is not installed.
        RuntimeUnavailable: the library cannot build for this GPU.
        InputError: an unknown bundle, precision, library or clip.
    """
    from relo_edge.calibration.quantize import add_precision, record_clips
    from relo_edge.runtimes.tensorrt import engines

    target = engines.open_target(library, str(batch), compatible)

    def record(of: Bundle) -> Recording:
        return record_clips(of, clips)

    opened = add_precision(resolve_bundle(bundle), precision, record)
    target.library.journal.take_layers()
    measured = None
    if measure and target.gpu is not None:
        built, measured = build_and_measure(opened, precision, target, record)
    else:
        graphs = {
            name: opened.engine_graph(name, precision) for name in list_graphs(opened.variant)
        }
        built = engines.build_engines(opened, precision, graphs, target)
    kept = measured is None or measured.passed
    xrays = tuple(_explain_engines(built, target)) if explain and kept else ()
    return EngineReport(built, measured, xrays)


def _explain_engines(built: BuiltEngines, target: Target) -> Iterator[Part]:
    """The kernels of each engine, from what the builder logged while it built them."""
    from relo_edge.runtimes.tensorrt.sidecar import FOLDER
    from relo_edge.runtimes.tensorrt.xray import read_plan

    messages = target.library.journal.take_layers()
    if len(messages) != len(built.sidecars):
        raise RuntimeUnavailable(
            f"{target.library.flavour} does not list the kernels of an engine",
            fix="use `--library tensorrt-rtx`, or leave out --explain",
        )
    for sidecar, message in zip(built.sidecars, messages, strict=True):
        plan = (built.bundle / FOLDER / sidecar.plan).read_bytes()
        yield read_plan(sidecar.plan, message, plan)
