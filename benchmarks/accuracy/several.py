"""Several trackers on one dataset: evaluated by the same code, shown in one table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from relo_edge.benchmarks.accuracy.evaluation import EvalRequest, evaluate_dataset
from relo_edge.benchmarks.accuracy.frame_rates import evaluate_frame_rates
from relo_edge.benchmarks.accuracy.results import FIGURES, EvalResult, print_figures
from relo_edge.benchmarks.accuracy.results_folder import describe_peer
from relo_edge.datasets.layouts import Dataset
from relo_edge.errors import InputError
from relo_edge.peers.registry import open_peer

__all__ = ["SeveralResults", "evaluate_trackers"]

log = logging.getLogger("relo_edge")


@dataclass(frozen=True)
class SeveralResults:
    """A result for each tracker, in the order asked for."""

    results: tuple[EvalResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain data: what `eval` says of each tracker, below its name."""
        trackers = [{"tracker": one.tracker, **one.to_dict()} for one in self.results]
        return {"dataset": self.results[0].dataset, "trackers": trackers}

    def describe(self) -> str:
        """One table, a line for each tracker and frame rate."""
        rows = [row for one in self.results for row in _list_rows(one)]
        width = max(len(name) for name, _ in rows)
        head = "".join(f"{title:>8}" for title in FIGURES.values()) + f"{'FPS':>10}"
        lines = [self.results[0].describe_dataset(), f"{'':<{width}}{head}"]
        lines += [f"{name:<{width}}{_print_row(one)}" for name, one in rows]
        withheld = [one.submission for one in self.results if one.submission]
        lines += [f"the truth is withheld; to submit: {path}" for path in withheld]
        return "\n".join([*lines, *(f"results in {one.folder}" for one in self.results)])


def _list_rows(result: EvalResult) -> Iterator[tuple[str, EvalResult]]:
    yield result.tracker, result
    for step, lower in result.lower_rates.items():
        yield f"  every {step} frames", lower


def _print_row(result: EvalResult) -> str:
    figures = print_figures(result.score) if result.score else f"{'-':>8}" * len(FIGURES)
    return figures + (f"{result.fps:>10.1f}" if result.fps else f"{'-':>10}")


def evaluate_trackers(
    requests: Sequence[EvalRequest], dataset: Dataset, every: Sequence[int] = ()
) -> SeveralResults:
    """One after the other, each with a results folder of its own; `output` holds them all."""
    labelled = _label_requests(requests)
    results = []
    for number, request in enumerate(labelled, 1):
        log.info("tracker %d of %d: %s", number, len(labelled), request.label)
        results.append(
            evaluate_frame_rates(request, dataset, every)
            if every
            else evaluate_dataset(request, dataset)
        )
    return SeveralResults(tuple(results))


def _label_requests(requests: Sequence[EvalRequest]) -> list[EvalRequest]:
    """Every tracker known to open, and named apart from the others, before the first starts."""
    known: list[Any] = []
    labelled: dict[str, EvalRequest] = {}
    for request in requests:
        identity, name = _identify(request)
        if identity in known:
            found = request.bundle.path if request.bundle else request.tracker
            raise InputError("the same tracker twice", found=found, fix="leave one out")
        known.append(identity)
        label = next(one for one in _list_labels(name) if one not in labelled)
        output = None if request.output is None else request.output / label
        labelled[label] = replace(request, label=label, output=output)
    return list(labelled.values())


def _list_labels(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}-{number}" for number in count(2))


def _identify(request: EvalRequest) -> tuple[Any, str]:
    """What makes a tracker another one, and its name."""
    if request.bundle is not None:
        return request.bundle.path.resolve(), request.label or request.bundle.path.name
    peer = open_peer(request.tracker or "")
    return describe_peer(peer), peer.name
