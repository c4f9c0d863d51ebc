"""Try attacks and print how many were held: `make attack` tries all, the tests a share.

A kind is a module beside this one with a function `list_attacks`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import random
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]

from harness import Attack, Outcome, try_attack  # noqa: E402

from relo_edge.export.demo import find_demo_bundle  # noqa: E402
from relo_edge.host.cpu import count_cores  # noqa: E402

KINDS = ("checkpoints", "bundles", "sidecars", "graphs", "inputs", "sources", "web")


def main() -> int:
    """The table, or JSON of what failed; 1 where anything did."""
    options = _read_options()
    find_demo_bundle()  # the attacks copy it
    results = {}
    for kind in options.kinds:
        results[kind] = _try_kind(kind, options.count, options.only)
        if not options.json:
            _print_kind(kind, results[kind])
    failed = [outcome for outcomes in results.values() for outcome in outcomes if outcome.faults]
    if options.json:
        tried = {kind: len(outcomes) for kind, outcomes in results.items()}
        print(json.dumps({"tried": tried, "failed": [asdict(outcome) for outcome in failed]}))
    else:
        _print_total(results)
    return 1 if failed else 0


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", default=KINDS, help=f"of {', '.join(KINDS)}")
    parser.add_argument(
        "--count", type=int, help="attacks of each kind, the same random ones each time"
    )
    parser.add_argument("--only", default="", help="words in the attack's name")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _try_kind(kind: str, count: int | None, only: str) -> list[Outcome]:
    attacks: list[Attack] = list(importlib.import_module(kind).list_attacks())
    attacks = [attack for attack in attacks if only in attack.name]
    if count is not None:
        random.Random(0).shuffle(attacks)
    return _share_out(lambda number: try_attack(kind, attacks[number]), len(attacks[:count]))


def _share_out(act: Callable[[int], Outcome], count: int) -> list[Outcome]:
    """Outcomes in order, by a fork for each core: an attack waits more than it computes."""
    global _act
    _act = act  # a fork inherits it; it cannot be pickled
    with multiprocessing.get_context("fork").Pool(count_cores()) as pool:
        return pool.map(_call, range(count), chunksize=1)


def _call(number: int) -> Outcome:
    return _act(number)


_act: Callable[[int], Outcome]


def _print_kind(kind: str, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        if outcome.faults:
            print(f"  {kind} {outcome.name}: {'; '.join(outcome.faults)}")
            print("".join(f"    {line}\n" for line in outcome.output.splitlines()[-3:]), end="")


def _print_total(results: dict[str, list[Outcome]]) -> None:
    print(f"\n{'kind':<14}{'tried':>7}{'held':>7}{'failed':>8}{'slowest':>10}{'most memory':>14}")
    for kind, outcomes in results.items():
        failed = sum(bool(outcome.faults) for outcome in outcomes)
        slowest = max((outcome.seconds for outcome in outcomes), default=0.0)
        memory = max((outcome.megabytes for outcome in outcomes), default=0)
        counts = f"{len(outcomes):>7}{len(outcomes) - failed:>7}{failed:>8}"
        print(f"{kind:<14}{counts}{slowest:>8.1f} s{memory:>11} MB")


if __name__ == "__main__":
    sys.exit(main())
