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
from relo_edge.contract import EngineGraph, describe_graph
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.host.files import find_cache, hash_file, publish_folder, share_file
from relo_edge.host.libcuda import list_devices
from relo_edge.host.progress import show_progress
from relo_edge.host.signals import catch_interrupt
from relo_edge.runtimes.tensorrt.builder import Wanted, build_plan, make_profile
from relo_edge.runtimes.tensorrt.capability import check_capability
from relo_edge.runtimes.tensorrt.library import (
    COMPATIBLE,
    Library,
    choose_flavour,
    find_library,
)
from relo_edge.runtimes.tensorrt.sidecar import AHEAD_OF_TIME, FOLDER, Sidecar

__all__ = ["BuiltEngines", "Target", "build_engines", "find_gpu", "open_target"]


@dataclass(frozen=True)
class Gpu:
    """The first GPU, as the driver names it."""

    name: str
    capability: tuple[int, int]


@dataclass(frozen=True)
class Target:
    """The library that builds, and what for."""

    library: Library
    gpu: Gpu | None
    """None where nothing built can be run."""
    batch: int = 1
    compatible: str | None = None

    @property
    def place(self) -> str:
        """Whom the engines are for; RTX's are compiled to the end where they run."""
        if self.gpu is None or self.library.is_rtx:
            return AHEAD_OF_TIME
        return self.gpu.name

    @property
    def label(self) -> str:
        """As part of a file's name: library, and GPU generation where that matters."""
        if self.gpu is None or self.library.is_rtx:
            return self.library.flavour
        return "{}.sm{}{}".format(self.library.flavour, *self.gpu.capability)


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
            size = (self.bundle / FOLDER / sidecar.plan).stat().st_size / 1e6
            lines.append(f"  {sidecar.describe()}, {size:.1f} MB")
        if not self.has_gpu:
            lines.append("built ahead of time, not yet run: there is no GPU here")
        return "\n".join(lines)


def find_gpu() -> Gpu | None:
    """The first GPU; without a driver, none."""
    try:
        devices = list_devices()["devices"]
    except OSError:
        return None
    if not devices:
        return None
    major, minor = devices[0]["capability"]
    return Gpu(devices[0]["name"], (major, minor))


def open_target(flavour: str | None, batch: int, compatible: str | None) -> Target:
    """The library asked for, or the one that fits the GPU; checked before anything is made."""
    if batch < 1:
        raise InputError("batch", found=batch, expected="1 or more")
    if compatible is not None and compatible not in COMPATIBLE:
        raise InputError("compatibility", found=compatible, expected=" | ".join(COMPATIBLE))
    gpu = find_gpu()
    library = find_library(flavour or choose_flavour(gpu.capability if gpu else None))
    if gpu is None and library.needs_gpu_to_build:
        raise RuntimeUnavailable(
            f"{library.flavour} builds on the GPU that will run the engine, and there is none",
            fix="build ahead of time with `--library tensorrt-rtx`, or on the device",
        )
    return Target(library, gpu, batch, compatible)


def build_engines(
    bundle: Bundle, precision: str, graphs: Mapping[str, EngineGraph], target: Target
) -> BuiltEngines:
    """Build every graph's plan and publish all at once: whatever ends it early leaves nothing."""
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
            _build_engine(bundle, name, precision, graph, target, part)
            for name, graph in graphs.items()
        )
    return BuiltEngines(bundle.path, sidecars, time.perf_counter() - start, target.gpu is not None)


def _build_engine(
    bundle: Bundle, name: str, precision: str, graph: EngineGraph, target: Target, folder: Path
) -> Sidecar:
    contract = describe_graph(bundle.variant, name, graph.state_dtype)
    # Templates come one at a time.
    batch = target.batch if name == "step" else 1
    wanted = Wanted(contract, batch, target.compatible, _place_timings(target))
    stem = f"{name}.{precision}.{target.label}"
    path = folder / f"{stem}.plan"
    with (
        catch_interrupt() as pressed,
        show_progress(f"building {name} in {precision}", unit="steps") as advance,
    ):
        plan = build_plan(target.library, graph.path, wanted, advance, pressed)
    path.unlink(missing_ok=True)
    path.write_bytes(plan)
    source = bundle.manifest["graphs"][precision][name]
    sidecar = Sidecar(
        graph=name,
        precision=precision,
        graph_sha256=bundle.manifest["files"][source]["sha256"],
        plan=path.name,
        plan_sha256=hash_file(path),
        flavour=target.library.flavour,
        tensorrt=target.library.version,
        gpu=target.place,
        compute_capability=_bind_capability(target),
        batch=batch,
        profiles=make_profile(contract, batch),
        state_dtype=graph.state_dtype,
        compatible=target.compatible,
        kept_in_float32=graph.kept,
    )
    side = folder / f"{stem}.json"
    side.unlink(missing_ok=True)
    side.write_text(json.dumps(sidecar.to_dict(), indent=2) + "\n", encoding="utf-8")
    return sidecar


def _bind_capability(target: Target) -> tuple[int, int] | None:
    if target.gpu is None or target.library.is_rtx:
        return None
    return target.gpu.capability


def _place_timings(target: Target) -> Path | None:
    """One file for each GPU and version: timings of another would be wrong here."""
    if target.gpu is None:
        return None
    gpu = "-".join(target.gpu.name.lower().split())
    return find_cache() / "timings" / f"{gpu}-{target.library.version}.cache"
