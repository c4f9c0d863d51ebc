"""The loop behind `track` with several sources: a thread each, one runtime, files for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relo_edge.errors import ReloError
from relo_edge.host.progress import show_progress
from relo_edge.host.signals import catch_interrupt
from relo_edge.lost import Recovery
from relo_edge.runtime import Runtime
from relo_edge.spec import TrackerProtocol
from relo_edge.streams.jobs import SourceJob
from relo_edge.streams.metrics import Metrics
from relo_edge.streams.sharing import SharedRuntime, StreamTracker
from relo_edge.streams.source_thread import SourceThread
from relo_edge.tracking.loop import TrackSummary
from relo_edge.video.live import read_live

__all__ = ["FleetSummary", "follow_sources"]

POLL_SECONDS = 0.1
"""How long Ctrl-C may wait."""


@dataclass(frozen=True)
class FleetSummary:
    """The result of a run with several sources.

    Attributes:
        sources: each source's own summary.
        failures: by source, the error that ended it before its end.
        frames: frames of all sources.
        fps: frames of all sources per second of the whole run.
        interrupted: whether Ctrl-C or SIGTERM ended the run.
        runtime: the runtime's name, and beside it its precision and device.
        bundle: the bundle that was asked for; None for a checkpoint alone.
    """

    sources: dict[str, TrackSummary]
    failures: dict[str, str]
    frames: int
    fps: float | None
    interrupted: bool
    runtime: str
    precision: str
    device: str
    bundle: str | None = None

    @property
    def outputs(self) -> tuple[Path, ...]:
        """The files written, of all sources."""
        return tuple(path for one in self.sources.values() for path in one.outputs)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {**vars(self), "sources": {n: one.to_dict() for n, one in self.sources.items()}}

    def describe(self) -> str:
        """The same for a reader."""
        lines = [f"{name}: {one.describe()}" for name, one in self.sources.items()]
        lines += [f"{name} failed: {why}" for name, why in self.failures.items()]
        rate = f", {self.fps:.1f} FPS" if self.fps else ""
        return "\n".join([*lines, f"all sources: {self.frames} frames{rate}"])


def follow_sources(
    shared: SharedRuntime,
    jobs: Sequence[SourceJob],
    protocol: TrackerProtocol,
    recovery: Recovery | None,
    first: int = 0,
    metrics: Metrics | None = None,
) -> FleetSummary:
    """Follow every source to its end, or to Ctrl-C; none begins before all are open.

    Raises:
        InputError: a source that cannot be.
        SourceError: a source that does not open.
    """
    lock, woken, all_open = threading.Lock(), threading.Event(), threading.Event()
    begin = time.perf_counter()
    with (
        catch_interrupt() as pressed,
        show_progress(f"tracking {len(jobs)} sources") as advance,
    ):

        def count_frame() -> None:
            with lock:
                advance()

        threads = []
        for job in jobs:
            meter = metrics.meter(job.name) if metrics else None
            share: Runtime = shared.share(len(job.starts))
            opened = meter.time_network(share) if meter else share
            thread = SourceThread(
                job.name,
                read_live(job.source),
                StreamTracker(opened, protocol, color="bgr", recovery=recovery),
                job.starts,
                job.sinks,
                first=first,
                meter=meter,
                advance=count_frame,
                on_change=woken.set,
                may_begin=all_open,
            )
            threads.append(thread)
        try:
            for thread in threads:
                thread.start()
            while not pressed.is_set() and not all(thread.ended for thread in threads):
                woken.wait(POLL_SECONDS)
                woken.clear()
                _raise_serious(threads)
                if all(thread.opened for thread in threads):
                    all_open.set()
        finally:
            for thread in threads:
                thread.stop()
            for thread in threads:
                thread.join()
        _raise_serious(threads)
    seconds = time.perf_counter() - begin
    summaries = {one.name: one.summarize(pressed.is_set()) for one in threads}
    frames, runtime = sum(one.frames for one in summaries.values()), shared.runtime
    return FleetSummary(
        sources=summaries,
        failures={one.name: str(one.failure) for one in threads if one.failure},
        frames=frames,
        fps=frames / seconds if frames else None,
        interrupted=pressed.is_set(),
        runtime=runtime.name,
        precision=runtime.precision,
        device=runtime.device,
    )


def _raise_serious(threads: Sequence[SourceThread]) -> None:
    """A source that did not open ends the run; so does an error that is no source's own."""
    for thread in threads:
        if thread.opened:
            thread.wait_opened()
        if thread.failure and not isinstance(thread.failure, ReloError):
            raise thread.failure
