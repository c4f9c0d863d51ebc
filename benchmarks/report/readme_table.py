"""README's table of what was measured where, made from the files in `results/`: `make results`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relo_edge.errors import InputError, ReloError
from relo_edge.host.files import write_text

__all__ = ["renew_table"]

BEGIN, END = "<!-- results: made by `make results`, not by hand -->", "<!-- /results -->"
TITLES = ("", "precision", "batch", "p50 ms", "p99 ms", "FPS", "against PyTorch", "parity")


def renew_table(readme: Path, folder: Path) -> bool:
    """Put the table between the two marks; whether that changed anything."""
    before = readme.read_text(encoding="utf-8")
    head, mark, rest = before.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not mark or not end:
        raise InputError(f"{readme}", found="no place for the table", expected=f"{BEGIN} … {END}")
    table = "\n\n".join("\n".join(_draw_file(path)) for path in sorted(folder.glob("*.json")))
    after = f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"
    if after != before:
        write_text(readme, after)
    return after != before


def _draw_file(path: Path) -> Iterator[str]:
    """Where and when, then a row for each contender."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        place, rows = found["environment"], found["rows"]
        doubts = sorted({doubt for row in rows for doubt in row.get("doubts", ())})
        yield f"{_name_place(place)} ([{path.stem}](benchmarks/results/{path.name})):"
        yield ""
        yield f"| {' | '.join(TITLES)} |"
        yield f"|{'---|' * len(TITLES)}"
        for row in rows:
            yield f"| {' | '.join(_list_cells(row))} |"
    except (ValueError, KeyError, TypeError) as error:
        expected = "what `relo-edge bench --json` prints"
        raise InputError(f"{path}", found=repr(error), expected=expected) from None
    if doubts:
        raise InputError(
            f"{path} was measured on a busy machine",
            found="; ".join(doubts),
            fix="measure again on a quiet one",
        )


def _name_place(place: dict[str, Any]) -> str:
    device = place.get("gpu") or place.get("board") or f"{place['cpu']}, {place['cores']} cores"
    bundle = f"{place['bundle']} on " if "bundle" in place else ""
    return f"{bundle}{device}, {place['date']}"


def _list_cells(row: dict[str, Any]) -> list[str]:
    return [
        row["runtime"],
        row["precision"],
        str(row["batch"]),
        f"{row['p50_ms']:.1f}",
        f"{row['p99_ms']:.1f}",
        f"{row['fps']:.1f}",
        _describe_ratio(row),
        _describe_parity(row),
    ]


def _describe_ratio(row: dict[str, Any]) -> str:
    ratio, quartiles = row["ratio_to_reference"], row.get("ratio_quartiles")
    if not ratio:
        return "–"
    return f"{ratio:.2f} ×" + (f" ({quartiles[0]:.2f}–{quartiles[1]:.2f})" if quartiles else "")


def _describe_parity(row: dict[str, Any]) -> str:
    proof = row.get("parity")
    if not proof:
        return "–"
    if not proof["passed"]:
        return "**failed**"
    return f"IoU {proof['closed_loop_iou']:.3f}" if proof["judged"] else "same outputs"


if __name__ == "__main__":
    try:
        changed = renew_table(Path("README.md"), Path("benchmarks/results"))
    except (ReloError, OSError) as error:
        sys.exit(f"{error}")
    print("README.md: " + ("table renewed" if changed else "table as it was"))
