"""What TensorRT made of a graph: how much of it really runs in INT8, and what converting costs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["LayerSummary", "summarize_layers"]

# As the inspector names them in "Format/Datatype", which older versions write as "Format".
TYPES = {"int8": "int8", "half": "fp16", "fp16": "fp16", "float": "fp32", "fp32": "fp32"}


@dataclass(frozen=True)
class LayerSummary:
    """An engine's layers by the type of what they read; reformats compute nothing."""

    layers: int
    by_type: Mapping[str, int]
    reformats: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def describe(self) -> str:
        """In one line."""
        kinds = ", ".join(f"{count} in {kind}" for kind, count in sorted(self.by_type.items()))
        return f"{self.layers} layers: {kinds or 'types not told'}; {self.reformats} reformats"


def summarize_layers(text: str) -> LayerSummary:
    """Read the inspector's JSON; without detailed profiling it only lists names."""
    layers = json.loads(text).get("Layers", [])
    detailed = [layer for layer in layers if isinstance(layer, dict)]
    working = [layer for layer in detailed if layer.get("LayerType") not in ("Reformat", "NoOp")]
    kinds = Counter(kind for layer in working if (kind := _name_type(layer)))
    reformats = sum(layer.get("LayerType") == "Reformat" for layer in detailed)
    return LayerSummary(len(layers), dict(kinds), reformats)


def _name_type(layer: Mapping[str, Any]) -> str | None:
    """INT8 where any input is; else the first input's type, where that is one of ours."""
    found = []
    for end in layer.get("Inputs", []):
        told = str(end.get("Format/Datatype", end.get("Format", ""))).lower()
        found += [kind for word, kind in TYPES.items() if word in told][:1]
    return "int8" if "int8" in found else next(iter(found), None)
