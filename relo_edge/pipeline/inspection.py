"""What a bundle holds, and what of it is stale or damaged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.bundle import Bundle
from relo_edge.runtime import resolve_bundle

__all__ = ["Inspection", "inspect_bundle"]


@dataclass(frozen=True)
class Inspection:
    """A bundle's content, its parity on record, and its faults."""

    path: Path
    manifest: Mapping[str, Any]
    damage: Mapping[str, str]
    engines: tuple[Mapping[str, Any], ...]

    @property
    def is_sound(self) -> bool:
        """Whether every file is the one that was published."""
        return not self.damage

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
            ["sound" if self.is_sound else "DAMAGED"],
        ]
        return "\n".join(line for section in sections for line in section)

    def _describe_model(self) -> list[str]:
        variant, checkpoint = self.manifest["variant"], self.manifest["checkpoint"]
        tools = ", ".join(f"{k} {v}" for k, v in self.manifest.get("tools", {}).items())
        sizes = (
            f"width {variant['width']}, depth {variant['depth']}, heads {variant['heads']}, "
            f"temporal tokens {variant['temporal_tokens']}, templates {variant['templates']}"
        )
        return [
            f"{self.path}: {variant['name']} ({sizes})",
            f"  from {checkpoint['path']} sha256 {checkpoint['sha256'][:12]}",
            f"  made with {tools}",
        ]

    def _describe_graphs(self) -> list[str]:
        lines = [f"  {'precision':<10}{'graph':<10}{'file':<22}{'MB':>8}  state"]
        for precision, graphs in self.manifest["graphs"].items():
            for graph, name in graphs.items():
                size = self.manifest["files"][name]["bytes"] / 1e6
                state = "DAMAGED" if name in self.damage else "ok"
                lines.append(f"  {precision:<10}{graph:<10}{name:<22}{size:>8.1f}  {state}")
        return lines

    def _describe_parity(self) -> list[str]:
        lines = []
        for precision, parity in self.manifest.get("parity", {}).items():
            lines.append(f"  parity of {precision} with {parity['against']} when exported")
            lines.append(f"  {'frame':<7}{'restarted':<12}{'logits':>10}{'box':>10}{'state':>10}")
            for row in parity["frames"]:
                restarted = ", ".join(map(str, row["restarted"])) or "-"
                errors = (row["policy_logits"], row["box"], row["temporal_tokens"])
                numbers = "".join(f"{error:>10.1e}" for error in errors)
                lines.append(f"  {row['frame']:<7}{restarted:<12}{numbers}")
        return lines

    def _describe_verdicts(self) -> list[str]:
        lines = []
        for precision, verdict in self.manifest.get("verdicts", {}).items():
            cosines = ", ".join(
                f"{name} {error['cosine']:.4f}" for name, error in verdict["outputs"].items()
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


def _list_engines(bundle: Bundle) -> list[dict[str, Any]]:
    """Each engine's sidecar, and whether the graph it was built from is still this one."""
    hashes = {entry["sha256"] for entry in bundle.manifest["files"].values()}
    engines = []
    for path in sorted((bundle.path / "engines").glob("*.json")):
        try:
            sidecar = json.loads(path.read_text(encoding="utf-8"))
            fresh = sidecar["graph_sha256"] in hashes
        except (OSError, ValueError, KeyError, TypeError):
            engines.append({"file": path.name, "state": "unreadable sidecar"})
            continue
        engines.append({**sidecar, "file": path.name, "state": "ok" if fresh else "STALE"})
    return engines
