"""Both engines of a bundle at one precision, published together with their sidecars."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.bundle import Bundle
from relo_edge.contract import EngineGraph, describe_graph, list_graphs
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.host.files import find_cache, find_state, hash_file, publish_folder, share_file
from relo_edge.host.progress import show_progress
from relo_edge.host.signals import catch_interrupt
from relo_edge.runtimes.tensorrt.builder import Wanted, build_plan, make_profile
from relo_edge.runtimes.tensorrt.capability import check_capability
from relo_edge.runtimes.tensorrt.gpu import Gpu, find_gpu
from relo_edge.runtimes.tensorrt.library import (
    COMPATIBLE,
    TURING,
    Library,
    choose_flavour,
    find_library,
)
from relo_edge.runtimes.tensorrt.sidecar import AHEAD_OF_TIME, FOLDER, Sidecar
from relo_edge.runtimes.tensorrt.trust import record_plan

__all__ = [
    "BuiltEngines",
    "Target",
    "build_engines",
    "open_target",
    "parse_batches",
    "remove_engines",
]

BatchRange = tuple[int, int]
Batches = tuple[BatchRange, ...]


@dataclass(frozen=True)
class Target:
    """The library that builds, and what for."""

    library: Library
    gpu: Gpu | None
    """None where nothing built can be run."""
    batches: Batches = ((1, 1),)
    """The fewest and most targets of each step engine."""
    compatible: str | None = None

    @property
    def largest(self) -> int:
        """The most targets that step together."""
        return max(most for _, most in self.batches)

    @property
    def bound(self) -> Gpu | None:
        """The GPU that alone runs the engines; RTX's run on every card, but for Turing's."""
        if self.gpu is None or (self.library.is_rtx and self.gpu.capability != TURING):
            return None
        return self.gpu

    @property
    def label(self) -> str:
        """As part of a file's name: the library, and the GPU where the engine is bound to it."""
        flavour = self.library.flavour
        return f"{flavour}.{self.bound.label}" if self.bound else flavour


@dataclass(frozen=True)
class BuiltEngines:
    """What was built."""

    bundle: Path
    sidecars: tuple[Sidecar, ...]
    seconds: float
    has_gpu: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "engines": [sidecar.to_dict() for sidecar in self.sidecars],
            "seconds": round(self.seconds, 1),
            "run": self.has_gpu,
        }

    def describe(self) -> str:
        """A line for each, and whether it has ever run."""
        lines = [f"{self.bundle / FOLDER} in {self.seconds:.0f} s"]
        for sidecar in self.sidecars:
            plan = self.bundle / FOLDER / sidecar.plan
            size = f"{plan.stat().st_size / 1e6:.1f} MB" if plan.is_file() else "not kept"
            lines.append(f"  {sidecar.describe()}, {size}")
        if not self.has_gpu:
            lines.append("built ahead of time, not yet run: there is no GPU here")
        return "\n".join(lines)


def parse_batches(text: str) -> Batches:
    """`1,4,8` is an engine of fixed shapes for each; `1-8` one for the range."""
    found = []
    for part in text.split(","):
        least, dash, most = part.strip().partition("-")
        numbers = [least, most] if dash else [least, least]
        if not all(number.isdecimal() for number in numbers) or not 1 <= int(numbers[0]) <= int(
            numbers[1]
        ):
            raise InputError(
                "batch", found=text, expected="numbers from 1, such as 4 or 1,4,8 or 1-8"
            )
        found.append((int(numbers[0]), int(numbers[1])))
    return tuple(dict.fromkeys(found))


def open_target(flavour: str | None, batches: str, compatible: str | None) -> Target:
    """The library asked for, or the one that fits the GPU; checked before anything is made."""
    parsed = parse_batches(batches)
    if compatible is not None and compatible not in COMPATIBLE:
        raise InputError("compatibility", found=compatible, expected=" | ".join(COMPATIBLE))
    gpu = find_gpu()
    library = find_library(flavour or choose_flavour(gpu.capability if gpu else None))
    if gpu is None and library.needs_gpu_to_build:
        raise RuntimeUnavailable(
            f"{library.flavour} builds on the GPU that will run the engine, and there is none",
            fix="build ahead of time with `--library tensorrt-rtx`, or on the device",
        )
    find_state()  # where built plans are recorded
    return Target(library, gpu, parsed, compatible)


def build_engines(
    bundle: Bundle,
    precision: str,
    graphs: Mapping[str, EngineGraph],
    target: Target,
    *,
    attention: str = "",
) -> BuiltEngines:
    """Build every graph's plan and publish all at once: whatever ends it early leaves nothing.

    `attention` says how it is computed where that is not as the bundle's own graphs have it.
    """
    start = time.perf_counter()
    if target.gpu is not None:
        check_capability(precision, target.gpu.name, target.gpu.capability)
    folder = bundle.path / FOLDER
    with publish_folder(folder, within=bundle.path) as part:
        if folder.is_dir():
            shutil.copytree(
                folder, part, symlinks=True, copy_function=share_file, dirs_exist_ok=True
            )
        sidecars = tuple(
            _build_engine(bundle, name, precision, graphs[name], target, part, batch, attention)
            for name, batch in _list_plans(bundle, target)
        )
    for sidecar in sidecars:
        record_plan(sidecar.plan_sha256)
    return BuiltEngines(bundle.path, sidecars, time.perf_counter() - start, target.gpu is not None)


def remove_engines(built: BuiltEngines) -> None:
    """Take back what was built."""
    for sidecar in built.sidecars:
        plan = built.bundle / FOLDER / sidecar.plan
        for suffix in (".json", ".plan", ".kernels"):
            plan.with_suffix(suffix).unlink(missing_ok=True)


def _list_plans(bundle: Bundle, target: Target) -> list[tuple[str, BatchRange]]:
    """What is made once a target comes one at a time; steps at every batch."""
    *once, step = list_graphs(bundle.variant)
    return [*((name, (1, 1)) for name in once), *((step, batch) for batch in target.batches)]


def _build_engine(
    bundle: Bundle,
    name: str,
    precision: str,
    graph: EngineGraph,
    target: Target,
    folder: Path,
    batch: BatchRange,
    attention: str,
) -> Sidecar:
    contract = describe_graph(bundle.variant, name, graph.state_dtype)
    least, most = batch
    wanted = Wanted(
        contract,
        most,
        least,
        target.gpu.capability if target.gpu else None,
        target.compatible,
        _place_timings(target),
    )
    size = f"b{most}" if least == most else f"b{least}-{most}"
    stem = f"{name}.{precision}.{size}.{target.label}"
    path = folder / f"{stem}.plan"
    with (
        catch_interrupt() as pressed,
        show_progress(f"building {name} in {precision}, {size}", unit="steps") as advance,
    ):
        plan = build_plan(target.library, graph.path, wanted, advance, pressed)
    path.unlink(missing_ok=True)
    path.write_bytes(plan)
    source = bundle.manifest["graphs"][precision][name]
    gpu = target.gpu if target.bound else None
    sidecar = Sidecar(
        graph=name,
        precision=precision,
        graph_sha256=bundle.manifest["files"][source]["sha256"],
        plan=path.name,
        plan_sha256=hash_file(path),
        flavour=target.library.flavour,
        tensorrt=target.library.version,
        gpu=gpu.name if gpu else AHEAD_OF_TIME,
        compute_capability=gpu.capability if gpu else None,
        batch=most,
        profiles=make_profile(contract, most, least),
        state_dtype=graph.state_dtype,
        least=least,
        sm_count=gpu.sm_count if gpu else 0,
        board=gpu.board if gpu else "",
        power_mode=gpu.power_mode if gpu else "",
        compatible=target.compatible,
        kept_in_float32=graph.kept,
        attention=attention,
    )
    side = folder / f"{stem}.json"
    side.unlink(missing_ok=True)
    side.write_text(json.dumps(sidecar.to_dict(), indent=2) + "\n", encoding="utf-8")
    return sidecar


def _place_timings(target: Target) -> Path | None:
    """One file for each GPU and version: timings of another would be wrong here."""
    if target.gpu is None:
        return None
    return find_cache() / "timings" / f"{target.gpu.label}-{target.library.version}.cache"
