"""What a plan was built from and for, in a JSON file beside it; the plan itself is untouched."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from shlex import quote
from typing import Any

from relo_edge.bundle import Bundle, check_place
from relo_edge.errors import BundleError, RuntimeUnavailable
from relo_edge.host.files import open_regular
from relo_edge.host.json_files import read_json
from relo_edge.runtimes.tensorrt.capability import check_capability
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.runtimes.tensorrt.library import Library
from relo_edge.runtimes.tensorrt.sidecar_schema import check_sidecar
from relo_edge.runtimes.tensorrt.trust import is_recorded

__all__ = ["AHEAD_OF_TIME", "FOLDER", "Sidecar", "advise_build", "list_sidecars", "read_plan"]

log = logging.getLogger("relo_edge")

FORMAT = 2
FOLDER = "engines"
AHEAD_OF_TIME = "ahead of time"


@dataclass(frozen=True)
class Sidecar:
    """One plan's identity."""

    graph: str
    precision: str
    graph_sha256: str
    """Of the bundle's graph: another one there makes the engine stale."""
    plan: str
    plan_sha256: str
    flavour: str
    tensorrt: str
    gpu: str
    """The GPU it was built on, or `ahead of time`."""
    compute_capability: tuple[int, int] | None
    """Where it is bound to that GPU; RTX's engines are not."""
    batch: int
    """The most targets that step together."""
    profiles: Mapping[str, tuple[tuple[int, ...], ...]]
    """Of each input with a batch: the least, the best and the largest shape."""
    state_dtype: str
    least: int = 1
    """The fewest targets; as many as `batch` in an engine of fixed shapes."""
    sm_count: int = 0
    board: str = ""
    power_mode: str = ""
    compatible: str | None = None
    kept_in_float32: Mapping[str, str] = field(default_factory=dict)
    attention: str = ""
    """How it is computed, where the bundle's own graphs did not pass on that GPU."""
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def is_static(self) -> bool:
        """Whether its shapes are fixed."""
        return self.least == self.batch

    def describe(self) -> str:
        """In one line."""
        batch = f"batch {self.batch}" if self.is_static else f"batch {self.least} to {self.batch}"
        return f"{self.plan}: {self.flavour} {self.tensorrt}, {self.gpu}, {batch}"


def read_sidecar(path: Path) -> Sidecar:
    """A sidecar of a format that this version knows."""
    try:
        plain = read_json(path)
        if plain["format"] != FORMAT:
            raise ValueError(f"format {plain['format']!r:.40}")
        check_sidecar(plain)
        values = {f.name: plain[f.name] for f in fields(Sidecar)}
        if values["compute_capability"] is not None:
            major, minor = values["compute_capability"]
            values["compute_capability"] = (int(major), int(minor))
        return Sidecar(**values)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{path} cannot be read",
            found=f"{type(error).__name__} {error}",
            expected=f"an engine's sidecar of format {FORMAT}",
            fix="build the engine again with `relo-edge build-engine`",
        ) from None


def read_sidecars(bundle: Bundle) -> Iterator[tuple[Path, Sidecar]]:
    """Every sidecar of the bundle, and its path; plans that links lead to are refused."""
    for place in (bundle.path / FOLDER, *sorted((bundle.path / FOLDER).glob("*"))):
        check_place(bundle.path, place)
    for path in sorted((bundle.path / FOLDER).glob("*.json")):
        yield path, read_sidecar(path)


def list_sidecars(bundle: Bundle, flavour: str) -> list[Sidecar]:
    """The engines of the bundle that this library built."""
    sidecars = [sidecar for _, sidecar in read_sidecars(bundle)]
    return [sidecar for sidecar in sidecars if sidecar.flavour == flavour]


def advise_build(bundle: Bundle, precision: str, batch: int = 1) -> str:
    """The command that mends whatever is wrong with an engine."""
    words = f"relo-edge build-engine {quote(str(bundle.path))} --{precision}"
    return f"build it with `{words} --batch {batch}`" if batch > 1 else f"build it with `{words}`"


def read_plan(
    bundle: Bundle, sidecar: Sidecar, library: Library, gpu: Gpu, *, trusted: bool = False
) -> bytes:
    """The plan, once it is certain that it fits and who built it: no other is ever deserialised.

    Args:
        bundle: what the engine belongs to.
        sidecar: what is known of the plan.
        library: what will load it.
        gpu: what will run it.
        trusted: the user vouches for a plan that this machine did not build.

    Raises:
        RuntimeUnavailable: the plan is stale, foreign, damaged or not trusted.
    """
    check_capability(sidecar.precision, gpu.name, gpu.capability)
    path = bundle.path / FOLDER / sidecar.plan
    fix = advise_build(bundle, sidecar.precision, sidecar.batch)
    graphs = bundle.manifest["graphs"].get(sidecar.precision, {})
    now = bundle.manifest["files"].get(graphs.get(sidecar.graph), {}).get("sha256", "no graph")

    def demand(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise RuntimeUnavailable(
                f"engine {path}: {what}", found=found, expected=expected, fix=fix
            )

    demand("its graph has changed", sidecar.graph_sha256[:12], now[:12])
    if sidecar.compatible != "version":
        demand(f"{library.flavour}'s version", sidecar.tensorrt, library.version)
    if sidecar.compute_capability is not None and sidecar.compatible != "hardware":
        demand("its board", sidecar.board or "none", gpu.board or "none")
        demand("its GPU", sidecar.gpu, gpu.name)
        demand("its compute capability", sidecar.compute_capability, gpu.capability)
        demand("its number of SMs", sidecar.sm_count, gpu.sm_count)
        if sidecar.power_mode != gpu.power_mode:
            was, now = sidecar.power_mode or "none", gpu.power_mode or "none"
            log.warning("engine %s was tuned in power mode %s, not %s", path, was, now)
    try:
        with open_regular(path) as file:
            plan = file.read()
    except (OSError, ValueError) as error:
        raise RuntimeUnavailable(f"engine {path} cannot be read", found=error, fix=fix) from None
    digest = hashlib.sha256(plan).hexdigest()
    if digest != sidecar.plan_sha256:
        demand("the plan is damaged", f"sha256 {digest[:12]}", f"sha256 {sidecar.plan_sha256[:12]}")
    if not trusted:
        _demand_trust(path, sidecar, digest, fix)
    return plan


def _demand_trust(path: Path, sidecar: Sidecar, digest: str, fix: str) -> None:
    """A plan is code of whoever built it; one for several versions also holds host code."""
    vouch = "or pass `--trust-engine` if you trust whoever built it"
    if not is_recorded(digest):
        raise RuntimeUnavailable(
            f"engine {path} was not built on this machine", fix=f"{fix}, {vouch}"
        )
    if sidecar.compatible == "version":
        what = f"engine {path} holds code that the CPU runs"
        raise RuntimeUnavailable(what, fix=f"pass `--trust-engine` if you trust it, or {fix}")
