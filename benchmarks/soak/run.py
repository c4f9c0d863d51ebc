"""Hours of use in minutes: a camera that dies, targets that come and go, recordings, nothing left.

`python -m relo_edge.benchmarks.soak.run BUNDLE --seconds 600` soaks the loop behind `track`, with
`--page` the live page and a viewer; it prints a report, exit 1 if anything grew, broke or was left.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from relo_edge.benchmarks.soak.log import TARGETS, Diary, Holdings, SoakResult
from relo_edge.benchmarks.soak.loop import soak_loop
from relo_edge.benchmarks.soak.page import soak_page
from relo_edge.runtime import Runtime, open_runtime

__all__ = ["KINDS", "soak"]

KINDS: dict[str, Callable[[Runtime, Diary], None]] = {"loop": soak_loop, "page": soak_page}


def soak(runtime: Runtime, seconds: float, kind: str = "loop", seed: int = 0) -> SoakResult:
    """Run for so long, and say what grew, broke or stayed."""
    before = Holdings.count()
    with tempfile.TemporaryDirectory() as folder:
        diary = Diary(seconds, Path(folder), random.Random(seed))
        KINDS[kind](runtime, diary)
        return diary.conclude(kind, before)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", default="demo")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    with closing(open_runtime(chosen.bundle, batch=TARGETS, threads=1)) as runtime:
        result = soak(runtime, chosen.seconds, "page" if chosen.page else "loop")
    print(json.dumps(result.to_dict()) if chosen.json else result.describe())
    if not result.passed:
        raise SystemExit(1)


if __name__ == "__main__":
    _main()
