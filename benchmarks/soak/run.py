"""Hours of use in minutes: a camera that fails, targets that come and go, recordings: `make soak`.

`python -m relo_edge.benchmarks.soak.run BUNDLE --seconds 600` soaks the loop behind `track`, then
the live page with a viewer, then a wall of four sources, and prints one table; exit 1 if anything
grew, broke or was left.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from relo_edge.benchmarks.soak.log import TARGETS, ProcessUse, Soak, SoakLog, SoakResult
from relo_edge.benchmarks.soak.loop import LoopSoak
from relo_edge.benchmarks.soak.page import PageSoak
from relo_edge.benchmarks.soak.sources import WALL_SOURCES, WALL_TARGETS, WallSoak
from relo_edge.runtime import Runtime, open_runtime

__all__ = ["KINDS", "draw_table", "soak"]

KINDS: dict[str, Callable[[Runtime, SoakLog], Soak]] = {
    "loop": LoopSoak,
    "page": PageSoak,
    "wall": WallSoak,
}


def soak(runtime: Runtime, seconds: float, kind: str = "loop", seed: int = 0) -> SoakResult:
    """Run for so long, and say what grew, broke or stayed."""
    before = ProcessUse.count()
    with tempfile.TemporaryDirectory() as folder:
        log = SoakLog(seconds, Path(folder), random.Random(seed))
        KINDS[kind](runtime, log).run()
        return log.conclude(kind, before)


def draw_table(results: Sequence[SoakResult]) -> str:
    """A column for each soak, then the verdict."""
    columns = [dict(result.list_rows()) for result in results]
    names = list(dict.fromkeys(name for column in columns for name in column))
    lines = []
    for name in names:
        cells = "".join(f"{column.get(name, '-'):<32}" for column in columns)
        lines.append(f"{name:<15}{cells}".rstrip())
    failed = [result.kind for result in results if not result.passed]
    lines.append(f"FAILED: {', '.join(failed)}" if failed else "PASSED")
    return "\n".join(lines)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="demo")
    parser.add_argument("--seconds", type=float, default=600.0, help="of each kind")
    parser.add_argument("--kind", choices=KINDS, action="append", help="all if absent")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    results = []
    for kind in chosen.kind or KINDS:
        wall = kind == "wall"
        lanes, threads = (WALL_SOURCES, None) if wall else (1, 1)
        batch = WALL_TARGETS if wall else TARGETS
        opened = open_runtime(chosen.bundle, batch=batch, threads=threads, lanes=lanes)
        with closing(opened) as runtime:
            results.append(soak(runtime, chosen.seconds, kind))
    plain = [result.to_dict() for result in results]
    print(json.dumps(plain) if chosen.json else draw_table(results))
    if not all(result.passed for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    _main()
