"""What `serve` shows: one source, or a wall of several on one runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from relo_edge.lost import Recovery
from relo_edge.runtime import Runtime
from relo_edge.serve.named_targets import NamedTargets, build_targets
from relo_edge.serve.recordings import Recordings
from relo_edge.serve.wall import Wall
from relo_edge.serve.worker import TrackingWorker
from relo_edge.streams.metrics import Metrics
from relo_edge.streams.named_sources import NamedSource
from relo_edge.streams.sharing import SharedRuntime
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.live import read_live

if TYPE_CHECKING:
    from relo_edge.serve.page_finder import PageFinder

__all__ = ["build_wall", "build_worker"]


def build_worker(
    source: NamedSource,
    open_runtime: Callable[[], Runtime],
    protocol: str,
    recovery: Recovery | None,
    recordings: Path,
    starts: Sequence[TargetStart],
    metrics: Metrics | None,
    *,
    beside_others: bool = False,
) -> TrackingWorker:
    """The tracking thread of one source; beside others its name is what the page shows."""

    def open_targets() -> NamedTargets:
        return build_targets(open_runtime(), protocol, recovery)

    return TrackingWorker(
        lambda: read_live(source.source),
        open_targets,
        Recordings(recordings),
        starts,
        name=source.name if beside_others else None,
        meter=metrics.meter(source.name) if metrics else None,
    )


def build_wall(
    sources: Sequence[NamedSource],
    runtime: Runtime,
    targets: int,
    protocol: str,
    recovery: Recovery | None,
    recordings: Path,
    starts: Mapping[str, Sequence[TargetStart]],
    metrics: Metrics | None,
    finder: PageFinder | None = None,
) -> Wall:
    """A channel for each source, with so many targets and a folder of recordings of its own."""
    shared = SharedRuntime(runtime)
    workers = {
        source.name: build_worker(
            source,
            partial(shared.share, most=targets),
            protocol,
            recovery,
            recordings / source.name,
            starts[source.name],
            metrics,
            beside_others=True,
        )
        for source in sources
    }
    return Wall(workers, finder)
