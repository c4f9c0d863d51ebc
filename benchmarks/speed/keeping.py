"""Times of runtimes that are the same tracker, kept on this machine so that `auto` goes by them."""

from __future__ import annotations

import logging

from relo_edge.benchmarks.speed.results import BenchResult, BenchRow
from relo_edge.bundle import Bundle
from relo_edge.errors import ReloError
from relo_edge.host.measured import keep_measurement
from relo_edge.ranking import measure_graph, runs_graphs

__all__ = ["keep_times"]

log = logging.getLogger("relo_edge")


def keep_times(bundle: Bundle, result: BenchResult) -> None:
    """Keep what runs the bundle's graphs and was judged; nothing of a busy machine."""
    judged = [row for row in result.rows if runs_graphs(row.runtime) and _is_judged(row)]
    if not judged:
        return
    if not result.trusted:
        log.info("not kept for `auto`: this machine is busy; run it again when it is quiet")
        return
    try:
        for row in judged:
            keep_measurement(
                measure_graph(bundle, row.runtime, row.precision, row.batch, row.p50_ms, row.passed)
            )
    except (ReloError, OSError) as error:
        log.warning("not kept for `auto`: %s", error)
        return
    passed = [row for row in judged if row.passed and row.batch == judged[0].batch]
    if passed:
        best = min(passed, key=lambda row: row.p50_ms)
        log.info("kept: of these, `auto` takes %s in %s", best.runtime, best.precision)


def _is_judged(row: BenchRow) -> bool:
    """The reference is what the others are judged by."""
    return row.role == "reference" or (row.role == "candidate" and row.parity is not None)
