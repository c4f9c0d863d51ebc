"""The cost of each part of the graph in INT8, and which parts must stay float32 for the gate."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from relo_edge.calibration.candidates import Candidate

__all__ = ["Cost", "group_products", "keep_costly_parts", "measure_costs", "write_costs"]

log = logging.getLogger("relo_edge")

TABLE, PICTURE = "sensitivity.json", "sensitivity.png"


@dataclass(frozen=True)
class Cost:
    """What the graph loses when this part alone is INT8."""

    part: str
    products: int
    closed_loop_iou: float
    """With the float tracker."""
    worst_output: str
    cosine: float
    judged_track: bool
    """Whether the float tracker tracks these clips; if not, the outputs decide."""

    @property
    def rank(self) -> tuple[float, float]:
        """Larger is costlier: the closed loop counts first, then the worst output."""
        return (1 - self.closed_loop_iou if self.judged_track else 0.0, 1 - self.cosine)


MakeCandidate = Callable[[str, Iterable[str]], Candidate]
"""Quantizes these products alone and judges the result, under a name."""


def group_products(products: Sequence[str]) -> dict[str, list[str]]:
    """The products by the part of the network they belong to: `block3/attn`, `stage1.0`, `size`."""
    parts: dict[str, list[str]] = {}
    for name in products:
        words = name.split("/")
        part = "/".join(words[:2]) if words[0].startswith("block") else words[0]
        parts.setdefault(part, []).append(name)
    return parts


def measure_costs(parts: Mapping[str, Sequence[str]], make: MakeCandidate) -> list[Cost]:
    """Each part's cost on its own, the costliest first."""
    costs = [
        _read_cost(part, len(products), make(f"{part} alone", products))
        for part, products in parts.items()
    ]
    return sorted(costs, key=lambda cost: cost.rank, reverse=True)


def keep_costly_parts(
    costs: Sequence[Cost], parts: Mapping[str, Sequence[str]], whole: Candidate, make: MakeCandidate
) -> tuple[Candidate, list[str]]:
    """Return the costliest parts to float32, one after the other, until the gate is met."""
    best, kept = whole, list[str]()
    for cost in costs:
        if best.verdict.passed:
            break
        kept.append(cost.part)
        rest = [name for part, names in parts.items() if part not in kept for name in names]
        if not rest:
            break
        best = make(f"without {', '.join(kept)}", rest)
    return best, kept


def write_costs(costs: Sequence[Cost], kept: Sequence[str], folder: Path) -> Iterator[str]:
    """A table and a plot for the bundle; yields their names."""
    table = {"kept_in_float32": list(kept), "parts": [asdict(cost) for cost in costs]}
    (folder / TABLE).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    yield TABLE
    try:
        import matplotlib
    except ImportError:
        log.info("no matplotlib: %s is left out", PICTURE)
        return
    matplotlib.use("Agg")
    _draw_costs(costs, kept, folder / PICTURE)
    yield PICTURE


def _read_cost(part: str, products: int, candidate: Candidate) -> Cost:
    verdict = candidate.verdict
    name, error = verdict.worst_output
    return Cost(
        part, products, verdict.track.closed_loop_iou, name, error.cosine, verdict.judged_track
    )


def _draw_costs(costs: Sequence[Cost], kept: Sequence[str], path: Path) -> None:
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, sharey=True, figsize=(9, 1 + 0.24 * len(costs)))
    names = [cost.part for cost in costs]
    colours = ["tab:red" if cost.part in kept else "tab:blue" for cost in costs]
    left.barh(names, [1 - cost.closed_loop_iou for cost in costs], color=colours)
    left.set_xlabel("1 - closed-loop IoU with float32")
    right.barh(names, [1 - cost.cosine for cost in costs], color=colours)
    right.set_xlabel("1 - cosine of the worst output")
    right.set_xscale("log")
    left.invert_yaxis()
    figure.suptitle("cost of each part alone in INT8; red stays float32")
    figure.tight_layout()
    figure.savefig(path, dpi=90)
    pyplot.close(figure)
