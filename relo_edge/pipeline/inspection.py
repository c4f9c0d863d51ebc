"""What a bundle holds, and what of it is stale or damaged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.bundle import Bundle, check_place
from relo_edge.errors import BundleError
from relo_edge.families.registry import FAMILIES, find_family
from relo_edge.host.files import hash_file
from relo_edge.runtime import resolve_bundle

__all__ = ["Inspection", "inspect_bundle"]

OK, STALE, FOREIGN, DAMAGED = "ok", "STALE", "FOREIGN", "DAMAGED"
"""An engine's states: a stale one is of a graph that has been replaced since, a foreign one was
built on another machine."""

REBUILD = "build it again with `relo-edge build-engine`"


@dataclass(frozen=True)
class Inspection:
    """A bundle's content, its parity on record, and its faults."""

    path: Path
    manifest: Mapping[str, Any]
    damage: Mapping[str, str]
    engines: tuple[Mapping[str, Any], ...]

    @property
    def is_sound(self) -> bool:
        """Whether every file is the one that was published, engines and their sidecars included."""
        return not self.damage and all(engine["state"] != DAMAGED for engine in self.engines)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": str(self.path),
            "sound": self.is_sound,
            "damage": dict(self.damage),
            "engines": [dict(engine) for engine in self.engines],
            "manifest": dict(self.manifest),
        }

    def describe(self) -> str:
        """Tables for a reader."""
        sections = [
            self._describe_model(),
            self._describe_graphs(),
            self._describe_parity(),
            self._describe_verdicts(),
            self._describe_engines(),
            list(self.damage.values()),
            [engine["reason"] for engine in self.engines if engine["reason"]],
            ["sound" if self.is_sound else "DAMAGED"],
        ]
        return "\n".join(line for section in sections for line in section)

    def _describe_model(self) -> list[str]:
        variant, checkpoint = self.manifest["variant"], self.manifest["checkpoint"]
        tools = ", ".join(f"{k} {v}" for k, v in self.manifest.get("tools", {}).items())
        family = find_family(self.manifest.get("family", next(iter(FAMILIES))))
        sizes = ", ".join(
            f"{key.replace('_', ' ')} {value}"
            for key, value in variant.items()
            if isinstance(value, int)
        )
        return [
            f"{self.path}: {family.title} {variant['name']} ({sizes})",
            f"  from {checkpoint['path']} sha256 {checkpoint['sha256'][:12]}",
            f"  made with {tools}",
        ]

    def _describe_graphs(self) -> list[str]:
        lines = [f"  {'precision':<12}{'graph':<10}{'file':<24}{'MB':>8}  state"]
        rows = [(p, g, file) for p, gs in self.manifest["graphs"].items() for g, file in gs.items()]
        for precision, graphs in self.manifest.get("engine_graphs", {}).items():
            rows += [(f"{precision} engine", graph, e["file"]) for graph, e in graphs.items()]
        for precision, graph, name in rows:
            size = self.manifest["files"][name]["bytes"] / 1e6
            state = "DAMAGED" if name in self.damage else "ok"
            lines.append(f"  {precision:<12}{graph:<10}{name:<24}{size:>8.1f}  {state}")
        return lines

    def _describe_parity(self) -> list[str]:
        lines = []
        for precision, parity in self.manifest.get("parity", {}).items():
            lines.append(f"  parity of {precision} with {parity['against']} when exported")
            tensors = [k for k in parity["frames"][0] if k not in ("frame", "restarted")]
            head = "".join(f"{name:>18}" for name in tensors)
            lines.append(f"  {'frame':<7}{'restarted':<12}{head}")
            for row in parity["frames"]:
                restarted = ", ".join(map(str, row["restarted"])) or "-"
                numbers = "".join(f"{row.get(name, math.nan):>18.1e}" for name in tensors)
                lines.append(f"  {row['frame']:<7}{restarted:<12}{numbers}")
        return lines

    def _describe_verdicts(self) -> list[str]:
        lines = []
        for precision, verdict in self.manifest.get("verdicts", {}).items():
            cosines = ", ".join(
                f"{name} {error['cosine']:.4f}"
                for name, error in verdict.get("outputs", {}).items()
            )
            lines.append(f"  {precision} against float32 when quantized: cosine {cosines}")
        return lines

    def _describe_engines(self) -> list[str]:
        return [
            f"  engine {engine['file']}: {engine.get('precision', '?')}, "
            f"TensorRT {engine.get('tensorrt', '?')}, {engine.get('gpu', '?')}, {engine['state']}"
            for engine in self.engines
        ]


def inspect_bundle(bundle: str | Path | Bundle) -> Inspection:
    """Check every file of a bundle and list its graphs, engines and verdicts.

    Args:
        bundle: a bundle folder, an open bundle, or the word `demo`.

    Returns:
        What the bundle holds; `is_sound` says whether every file is as published.

    Raises:
        InputError: there is no such folder.
        BundleError: the manifest cannot be read.
    """
    bundle = resolve_bundle(bundle)
    return Inspection(
        bundle.path, bundle.manifest, bundle.find_damage(), tuple(_list_engines(bundle))
    )


def _list_engines(bundle: Bundle) -> Iterator[dict[str, Any]]:
    """Each engine, and whether it is still what was built, and of the graph that is there."""
    from relo_edge.runtimes.tensorrt.sidecar import FOLDER

    folder = bundle.path / FOLDER
    for path in [folder, *sorted(folder.glob("*.json"))]:
        try:
            check_place(bundle.path, path)
            if path != folder:
                yield {**_examine_engine(bundle, path), "file": path.name}
        except BundleError as error:
            yield {"file": path.name, "state": DAMAGED, "reason": str(error)}
            if path == folder:
                return


def _examine_engine(bundle: Bundle, path: Path) -> dict[str, Any]:
    from relo_edge.runtimes.tensorrt.sidecar import read_sidecar
    from relo_edge.runtimes.tensorrt.trust import is_recorded

    sidecar = read_sidecar(path)
    plan = path.with_name(sidecar.plan)
    check_place(bundle.path, plan)
    if not plan.is_file() or hash_file(plan) != sidecar.plan_sha256:
        raise BundleError(f"{plan} is not the plan that {path.name} describes", fix=REBUILD)
    name = bundle.manifest["graphs"].get(sidecar.precision, {}).get(sidecar.graph)
    now = bundle.manifest["files"].get(name, {}).get("sha256")
    state, reason = OK, ""
    if sidecar.graph_sha256 != now:
        state = STALE
    elif not is_recorded(sidecar.plan_sha256):
        state = FOREIGN
        reason = f"engine {plan} was not built on this machine: only `--trust-engine` loads it"
    return {**sidecar.to_dict(), "state": state, "reason": reason}
