"""Which of a bundle's engines are opened for a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from relo_edge.bundle import Bundle
from relo_edge.contract import STEP, TEMPLATE, list_graphs
from relo_edge.errors import PrecisionError, RuntimeUnavailable
from relo_edge.host.measured import list_measurements
from relo_edge.runtime import RuntimeRequest
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.runtimes.tensorrt.sidecar import Sidecar, advise_build, list_sidecars

__all__ = ["PRECISIONS", "ChosenEngines", "choose_engines", "cover_batches"]

PRECISIONS = ("fp16", "fp8", "int8", "fp32")
"""What engines are built in; the first is the best where nothing was measured."""


@dataclass(frozen=True)
class ChosenEngines:
    """The engines of one precision that a runtime opens."""

    template: Sidecar | None
    """None where the bundle has no such graph."""
    steps: Mapping[int, Sidecar]
    """The engine for each batch at which steps will run, ascending."""

    @property
    def sidecars(self) -> tuple[Sidecar, ...]:
        """All of them."""
        return (*((self.template,) if self.template else ()), *self.steps.values())

    @property
    def precision(self) -> str:
        """Of all of them."""
        return self.sidecars[0].precision


def choose_engines(request: RuntimeRequest, gpu: Gpu) -> ChosenEngines:
    """The engines of the precision asked for, or of the best one there.

    The best is what was measured fastest on this machine; what was measured there and is not the
    same tracker any more is left to those who ask for it by name.

    Args:
        request: the bundle, precision and batch asked for.
        gpu: engines built on it are preferred; others are refused by name when they are read.

    Raises:
        RuntimeUnavailable: there are no engines, or none for that batch.
        PrecisionError: there are engines, in other precisions.
    """
    listed = list_sidecars(request.bundle, request.name)
    wanted = _rank(request, listed) if request.precision == "auto" else [request.precision]
    for pool in ([s for s in listed if _fits(s, gpu)], listed):
        for precision in wanted:
            chosen = _gather(request.bundle, pool, precision, request.batch)
            if chosen:
                return chosen
    raise _explain(request, listed)


def cover_batches(sidecars: Iterable[Sidecar], batch: int) -> dict[int, Sidecar]:
    """The engine for each batch at which steps run, up to the first that holds all targets.

    A step of fewer targets runs on the smallest that fits. Engines of fixed shapes come before
    one for a range, which runs at any batch of it. Empty where none holds all targets.
    """
    sizes: dict[int, Sidecar] = {}
    for sidecar in sorted(sidecars, key=lambda s: s.is_static):
        most = sidecar.batch if sidecar.is_static else min(sidecar.batch, batch)
        sizes.update(dict.fromkeys(range(sidecar.least, most + 1), sidecar))
    enough = min((size for size in sizes if size >= batch), default=0)
    return {size: sizes[size] for size in sorted(sizes) if size <= enough}


def _rank(request: RuntimeRequest, listed: Sequence[Sidecar]) -> list[str]:
    """Measured and passed, the fastest first; then what was not measured."""
    plans = {sidecar.plan_sha256 for sidecar in listed}
    known = [
        m
        for m in list_measurements(request.bundle.key)
        if m.runtime == request.name and m.artefact in plans and m.batch == request.batch
    ]
    passed = [m.precision for m in known if m.passed]
    failed = {m.precision for m in known} - set(passed)
    return list(dict.fromkeys([*passed, *(p for p in PRECISIONS if p not in failed)]))


def _fits(sidecar: Sidecar, gpu: Gpu) -> bool:
    if sidecar.compute_capability is None or sidecar.compatible == "hardware":
        return True
    built_on = sidecar.compute_capability, sidecar.sm_count, sidecar.board
    return built_on == (gpu.capability, gpu.sm_count, gpu.board)


def _gather(
    bundle: Bundle, pool: Sequence[Sidecar], precision: str, batch: int
) -> ChosenEngines | None:
    of_it = [sidecar for sidecar in pool if sidecar.precision == precision]
    template = next((sidecar for sidecar in of_it if sidecar.graph == TEMPLATE), None)
    steps = cover_batches((sidecar for sidecar in of_it if sidecar.graph == STEP), batch)
    whole = steps and (template or TEMPLATE not in list_graphs(bundle.variant))
    return ChosenEngines(template, steps) if whole else None


def _explain(request: RuntimeRequest, listed: Sequence[Sidecar]) -> Exception:
    """No engine at all, none for so many targets, or none in that precision."""
    bundle, batch = request.bundle, request.batch
    best = PRECISIONS[0] if request.precision == "auto" else request.precision
    fix = advise_build(bundle, best, batch) if best in PRECISIONS else None
    largest = max((s.batch for s in listed if s.graph == STEP and s.precision == best), default=0)
    if 0 < largest < batch:
        what = f"largest batch of the engines in {bundle.path}"
        return RuntimeUnavailable(what, found=largest, expected=f"{batch} or more", fix=fix)
    there = [p for p in PRECISIONS if _gather(bundle, listed, p, batch)]
    if there:
        what = f"precision of {request.name}"
        return PrecisionError(what, found=best, expected=" | ".join(there), fix=fix)
    what = f"{bundle.path} holds no engine for {request.name}"
    return RuntimeUnavailable(what, fix=fix or advise_build(bundle, PRECISIONS[0], batch))
