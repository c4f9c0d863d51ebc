"""The same tracking on a Ray cluster, whose machines see bundle and dataset at the same paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from relo_edge.benchmarks.accuracy.workers import (
    POLL_SECONDS,
    Crew,
    PeerCrew,
    SequenceTracker,
    Stop,
    Tracked,
    TrackedSequence,
)
from relo_edge.benchmarks.accuracy.workers import track_sequence as track
from relo_edge.datasets.sequences import ImageSequence
from relo_edge.errors import InputError, MissingDependency, RuntimeUnavailable
from relo_edge.host.telemetry import import_silenced

__all__ = ["find_share", "track_on_ray"]

LOCAL = "local"
"""The address that starts a cluster of this machine's own."""


class _Never:
    """A worker is stopped by ending it."""

    def is_set(self) -> bool:
        return False


class _Worker:
    """An actor: one runtime, opened for its first sequence and kept for the next."""

    def __init__(self, crew: Crew | PeerCrew) -> None:
        self._crew = crew
        self._tracker: SequenceTracker | None = None

    def track(self, sequence: ImageSequence) -> tuple[str, TrackedSequence | None]:
        if self._tracker is None:
            self._tracker = self._crew.open_tracker()
        return sequence.name, track(sequence, self._tracker, _Never(), lambda: None)


def track_on_ray(
    crew: Crew | PeerCrew,
    sequences: Sequence[ImageSequence],
    address: str,
    jobs: int | None,
    stop: Stop,
    advance: Callable[[], None],
) -> Tracked:
    """As `track_here`, by actors of the cluster; as sequences are done."""
    ray = _import_ray()
    by_name = {sequence.name: sequence for sequence in sequences}
    with _connect(ray, address), _hire(ray, crew, jobs, len(sequences)) as pool:
        for sequence in sequences:
            pool.submit(lambda actor, value: actor.track.remote(value), sequence)
        while pool.has_next() and not stop.is_set():
            try:
                name, tracked = pool.get_next_unordered(timeout=POLL_SECONDS)
            except TimeoutError:
                continue
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except ray.exceptions.RayError as error:
                raise RuntimeUnavailable(
                    "a Ray actor ended by itself",
                    found=str(error).splitlines()[0],
                    fix="what is done is kept; run it again",
                ) from None
            for _ in by_name[name].images:
                advance()
            yield by_name[name], tracked


def _import_ray() -> Any:
    try:
        ray = import_silenced("ray")
        import_silenced("ray.util")
    except ImportError as error:
        raise MissingDependency(
            "`--ray` needs ray", found=error, fix="pip install 'relo-edge[ray]'"
        ) from None
    return ray


@contextmanager
def _connect(ray: Any, address: str) -> Iterator[None]:
    options: dict[str, Any] = {"address": address, "logging_level": "ERROR", "log_to_driver": False}
    if address == LOCAL:
        options["include_dashboard"] = False
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise InputError(
            f"Ray cluster {address}",
            found=str(error).splitlines()[0] if str(error) else type(error).__name__,
            expected=f"HOST:PORT of a cluster that runs, auto, or {LOCAL}",
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _hire(ray: Any, crew: Crew | PeerCrew, jobs: int | None, sequences: int) -> Iterator[Any]:
    """A pool of actors, spread over the machines; by default as many as there are machines."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    total = ray.cluster_resources()
    actors = min(jobs or len(machines), sequences)
    smallest = min(machine.get("CPU", 1) for machine in machines)
    threads = max(1, int(min(total.get("CPU", 1) // actors, smallest)))
    hired = ray.remote(
        num_cpus=find_share(total.get("CPU", 1), actors),
        num_gpus=find_share(total.get("GPU", 0), actors) if crew.device != "cpu" else 0,
        scheduling_strategy="SPREAD",
    )(_Worker)
    pool = [hired.remote(replace(crew, threads=threads)) for _ in range(actors)]
    try:
        yield ray.util.ActorPool(pool)
    finally:
        for actor in pool:
            ray.kill(actor)


def find_share(total: float, actors: int) -> float:
    """What one actor may ask for so that all of them find a place, however it is spread."""
    if not total:
        return 0.0
    return 1.0 if actors <= total else 1 / math.ceil(actors / total)
