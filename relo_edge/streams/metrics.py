"""Counts and times of every source for Prometheus: `--metrics [HOST:]PORT`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.measures.timed_runtime import TimedRuntime
from relo_edge.runtime import Runtime, StepResult
from relo_edge.tracker import Track
from relo_edge.video.live import LiveReader

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Metrics", "SourceMeter", "parse_address", "serve_metrics"]

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper limits of the histogram, in seconds: from a GPU's step to a source that lags."""


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `9100` or `0.0.0.0:9100`; without a host, this machine alone.

    Raises:
        InputError: it is neither.
    """
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        expected = "a port from 0 to 65535, or HOST:PORT"
        raise InputError("--metrics", found=repr(text), expected=expected)
    return host.strip("[]") or "127.0.0.1", int(port)


class Metrics:
    """What a run is counted with, source by source.

    Raises:
        MissingDependency: prometheus_client is not installed.
    """

    def __init__(self) -> None:
        try:
            import prometheus_client
        except ImportError:
            raise MissingDependency(
                "prometheus_client is not installed", fix="`pip install 'relo-edge[metrics]'`"
            ) from None
        registry = self.registry = prometheus_client.CollectorRegistry()

        def count(name: str, text: str) -> Any:
            return prometheus_client.Counter(
                f"relo_edge_{name}", text, ["source"], registry=registry
            )

        self.frames = count("frames", "Frames tracked.")
        self.lost = count("lost_targets", "How often a target was lost.")
        self.targets = prometheus_client.Gauge(
            "relo_edge_targets", "Targets in the last frame.", ["source"], registry=registry
        )
        self.stages = prometheus_client.Histogram(
            "relo_edge_stage_seconds",
            "Time of a frame in a stage: wait, crop, network, write, encode.",
            ["source", "stage"],
            buckets=BUCKETS,
            registry=registry,
        )
        self._meters: dict[str, SourceMeter] = {}
        registry.register(_ReaderCollector(self._meters))

    def meter(self, source: str) -> SourceMeter:
        """What a source is counted with; the same one for the same name."""
        if source not in self._meters:
            self._meters[source] = SourceMeter(self, source)
        return self._meters[source]


@contextmanager
def serve_metrics(address: str) -> Iterator[Metrics]:
    """Metrics that Prometheus reads at `[HOST:]PORT` during the block.

    Raises:
        InputError: no such address can be.
        MissingDependency: prometheus_client is not installed.
        SourceError: the address is taken, or is none of this machine's.
    """
    host, port = parse_address(address)
    metrics = Metrics()
    server, thread = _start_server(metrics.registry, host, port)
    try:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{server.server_address[1]}/metrics"
        print(f"metrics: {url}", file=sys.stderr, flush=True)
        yield metrics
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _start_server(
    registry: CollectorRegistry, host: str, port: int
) -> tuple[Any, threading.Thread]:
    import prometheus_client

    try:
        return prometheus_client.start_http_server(port, addr=host, registry=registry)
    except (OSError, OverflowError) as error:
        found = getattr(error, "strerror", None) or error
        what = f"--metrics: {host}:{port} cannot be served"
        raise SourceError(what, found=found, fix="choose another port") from None


class SourceMeter:
    """Counts one source; all methods may be called from any thread."""

    def __init__(self, metrics: Metrics, source: str) -> None:
        self._metrics, self._source = metrics, source
        self._lost: set[int | str] = set()
        self._reader: LiveReader | None = None
        self._before = ReaderCounts()
        self._network = 0.0
        metrics.frames.labels(source)  # a source that has no frame yet counts 0
        metrics.lost.labels(source)
        metrics.targets.labels(source)

    def watch(self, reader: LiveReader) -> None:
        """Read drops, reconnections and state from this reader; the one before is kept as a sum."""
        self._before = self.count_reader()
        self._reader = reader

    def count_frame(self, tracks: Mapping[int | str, Track]) -> None:
        """One frame was tracked; a target that is lost anew is counted."""
        lost = {name for name, track in tracks.items() if track.lost}
        self._metrics.frames.labels(self._source).inc()
        self._metrics.targets.labels(self._source).set(len(tracks))
        self._metrics.lost.labels(self._source).inc(len(lost - self._lost))
        self._lost = lost

    def add(self, stage: str, seconds: float) -> None:
        """A frame's time in a stage."""
        self._metrics.stages.labels(self._source, stage).observe(seconds)

    def add_tracking(self, seconds: float) -> None:
        """A frame's time in the tracker: the stages `network`, if it ran, and `crop`, the rest."""
        if self._network:
            self.add("network", self._network)
            self.add("crop", seconds - self._network)
        self._network = 0.0

    def note_network(self, seconds: float) -> None:
        """A step of this source's runtime."""
        self._network += seconds

    def time_network(self, runtime: Runtime) -> Runtime:
        """The runtime, whose steps are the stage `network`."""
        return _MeteredRuntime(runtime, self)

    def count_reader(self) -> ReaderCounts:
        """Over all readers of this source."""
        before, reader = self._before, self._reader
        if reader is None:
            return before
        return ReaderCounts(
            before.dropped + reader.dropped,
            before.reconnects + reader.reconnects,
            reader.state == "running",
        )


@dataclass(frozen=True)
class ReaderCounts:
    """What readers count themselves."""

    dropped: int = 0
    reconnects: int = 0
    running: bool = False


class _MeteredRuntime(TimedRuntime):
    """Tells how long its steps take."""

    def __init__(self, inner: Runtime, meter: SourceMeter) -> None:
        super().__init__(inner)
        self._meter = meter

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: NDArray[np.float32] | None
    ) -> StepResult:
        """The inner runtime's answer."""
        answer = super().step(slots, pixels, shared)
        begin, end = self.steps.pop()
        self._meter.note_network(end - begin)
        return answer


class _ReaderCollector:
    """Asks the readers when Prometheus asks."""

    def __init__(self, meters: Mapping[str, SourceMeter]) -> None:
        self._meters = meters

    def collect(self) -> Iterator[Any]:
        """Drops, reconnections, and which sources give frames."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        dropped = CounterMetricFamily(
            "relo_edge_dropped_frames", "Frames that a newer one replaced.", labels=["source"]
        )
        reconnects = CounterMetricFamily(
            "relo_edge_reconnects", "How often a lost source came back.", labels=["source"]
        )
        running = GaugeMetricFamily(
            "relo_edge_source_running", "1 while the source gives frames.", labels=["source"]
        )
        for name, meter in list(self._meters.items()):
            counts = meter.count_reader()
            dropped.add_metric([name], counts.dropped)
            reconnects.add_metric([name], counts.reconnects)
            running.add_metric([name], float(counts.running))
        yield from (dropped, reconnects, running)
