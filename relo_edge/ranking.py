"""In which order `auto` tries runtimes and precisions: what was measured on this machine counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from relo_edge.bundle import Bundle
from relo_edge.contract import STEP
from relo_edge.host.measured import Measurement, describe_place, list_measurements

__all__ = ["RankedRuntime", "identify_graph", "measure_graph", "rank_runtimes", "runs_graphs"]

PACKAGES = {
    "onnxruntime-cuda": ("onnxruntime-gpu",),
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime", "onnxruntime-gpu"),
    "onnxruntime-tensorrt": ("onnxruntime-gpu",),
    "pytorch": ("torch",),
}
"""What runs a bundle's graphs; the others run engines, of which `build-engine` keeps the times."""

ONE_BY_ONE = ("openvino", "onnxruntime")
"""Slots are stepped one after another there: a time for one target holds for any number."""


@dataclass(frozen=True)
class RankedRuntime:
    """A runtime in a precision, which may be auto."""

    runtime: str
    precision: str
    measured: bool = False
    """Whether it was measured here, is the same tracker, and has not changed since."""


def rank_runtimes(
    bundle: Bundle, precision: str, batch: int, names: Sequence[str]
) -> list[RankedRuntime]:
    """The runtimes in their order, but what was measured and passed before the first of these.

    Among the measured the fastest is first. A runtime that is none of them keeps its place: those
    that come before all that were measured (a GPU's, say) may well be faster still. One that was
    measured and is another tracker here comes last.
    """
    known = [
        m
        for m in list_measurements(bundle.key)
        if m.runtime in names
        and precision in ("auto", m.precision)
        and _still_holds(m, bundle, batch)
    ]
    measured = [
        RankedRuntime(
            m.runtime, m.precision if runs_graphs(m.runtime) else precision, measured=True
        )
        for m in known
        if m.passed
    ]
    passed = {one.runtime for one in measured}
    failed = {m.runtime for m in known if runs_graphs(m.runtime)} - passed
    sound = [name for name in names if name not in failed]
    place = min((sound.index(name) for name in passed), default=0)
    listed = [RankedRuntime(name, precision) for name in sound]
    last = [RankedRuntime(name, precision) for name in names if name in failed]
    return [*listed[:place], *dict.fromkeys(measured), *listed[place:], *last]


def measure_graph(
    bundle: Bundle, runtime: str, precision: str, batch: int, milliseconds: float, passed: bool
) -> Measurement:
    """What is kept of a runtime that runs one of the bundle's graphs here."""
    artefact, made_by = identify_graph(bundle, runtime, precision)
    place = describe_place()
    return Measurement(
        bundle.key, artefact, runtime, precision, batch, milliseconds, passed, made_by, place
    )


def identify_graph(bundle: Bundle, runtime: str, precision: str) -> tuple[str, str]:
    """The sha256 of the step graph that it runs, and its package's version."""
    graphs = bundle.manifest["graphs"]
    file = graphs.get(precision, graphs["fp32"])[STEP]
    return str(bundle.manifest["files"][file]["sha256"]), _find_version(PACKAGES[runtime])


def runs_graphs(runtime: str) -> bool:
    """Whether a runtime runs the bundle's graphs themselves, rather than engines."""
    return runtime in PACKAGES


def _still_holds(m: Measurement, bundle: Bundle, batch: int) -> bool:
    """An engine's runtime looks itself whether the plan is still the one that was measured."""
    if not runs_graphs(m.runtime):
        return m.batch == batch
    same = (m.artefact, m.version) == identify_graph(bundle, m.runtime, m.precision)
    return same and (m.batch == batch or (m.batch == 1 and m.runtime in ONE_BY_ONE))


def _find_version(packages: Sequence[str]) -> str:
    for package in packages:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return ""
