"""What a plan was built from and for, in a JSON file beside it; the plan itself is untouched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from relo_edge.bundle import Bundle, check_place
from relo_edge.errors import BundleError, RuntimeUnavailable
from relo_edge.host.files import hash_file
from relo_edge.host.json_files import read_json
from relo_edge.runtimes.tensorrt.capability import check_capability
from relo_edge.runtimes.tensorrt.library import Library
from relo_edge.runtimes.tensorrt.sidecar_schema import check_sidecar

__all__ = ["AHEAD_OF_TIME", "FOLDER", "Sidecar", "advise_build", "check_plan", "list_sidecars"]

FORMAT = 1
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
    batch: int
    profiles: Mapping[str, tuple[tuple[int, ...], ...]]
    """Of each input with a batch: the least, the best and the largest shape."""
    state_dtype: str
    compatible: str | None = None
    kept_in_float32: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def describe(self) -> str:
        """In one line."""
        batch = f"batch 1 to {self.batch}" if self.batch > 1 else "batch 1"
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
        values["batch"] = int(values["batch"])
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
    words = f"relo-edge build-engine {bundle.path} --{precision}"
    return f"build it with `{words} --batch {batch}`" if batch > 1 else f"build it with `{words}`"


def check_plan(
    bundle: Bundle,
    sidecar: Sidecar,
    library: Library,
    gpu: str,
    capability: tuple[int, int],
    batch: int,
) -> Path:
    """The plan's path, once it is certain that it fits: no foreign one is ever deserialised."""
    check_capability(sidecar.precision, gpu, capability)
    path = bundle.path / FOLDER / sidecar.plan
    graphs = bundle.manifest["graphs"].get(sidecar.precision, {})
    now = bundle.manifest["files"].get(graphs.get(sidecar.graph), {}).get("sha256", "no graph")

    def demand(what: str, found: object, expected: object) -> None:
        if found != expected:
            raise RuntimeUnavailable(
                f"engine {path}: {what}",
                found=found,
                expected=expected,
                fix=advise_build(bundle, sidecar.precision, max(batch, sidecar.batch)),
            )

    demand("its graph has changed", sidecar.graph_sha256[:12], now[:12])
    if sidecar.compatible != "version":
        demand(f"{library.flavour}'s version", sidecar.tensorrt, library.version)
    if sidecar.compute_capability is not None and sidecar.compatible != "hardware":
        demand("its GPU", sidecar.gpu, gpu)
        demand("its compute capability", sidecar.compute_capability, capability)
    if batch > sidecar.batch:
        demand("its largest batch", sidecar.batch, f"{batch} or more")
    if not path.is_file():
        demand("the plan", "no such file", "a file")
    if (digest := hash_file(path)) != sidecar.plan_sha256:
        demand("the plan is damaged", f"sha256 {digest[:12]}", f"sha256 {sidecar.plan_sha256[:12]}")
    return path
