"""One-pass tracking of a dataset's sequences: here, in processes, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.datasets.sequences import ImageSequence
from relo_edge.errors import InputError, RuntimeUnavailable, SourceError
from relo_edge.geometry import Box, read_box
from relo_edge.host.cpu import count_cores
from relo_edge.host.opencv import cv2
from relo_edge.peers.registry import open_peer
from relo_edge.runtime import Runtime, open_runtime
from relo_edge.spec import TrackerProtocol
from relo_edge.tracker import Track, Tracker
from relo_edge.video.opening import Frame, read_images

__all__ = [
    "Crew",
    "PeerCrew",
    "SequenceTracker",
    "Stop",
    "TrackedSequence",
    "track_here",
    "track_in_processes",
    "track_sequence",
]

POLL_SECONDS = 0.2
"""Seconds between looks at whether the user wants to stop."""


class Stop(Protocol):
    """A wish to stop that can be looked at between frames."""

    def is_set(self) -> bool:
        """Whether it was made."""


class SequenceTracker(Protocol):
    """What one pass asks of a tracker: `Tracker`, or one that is no bundle."""

    def init(self, frame: Frame, box: Box) -> None:
        """Start, or start again."""

    def update(self, frame: Frame) -> Track:
        """Where the target is in the next frame."""


@dataclass(frozen=True, eq=False)
class TrackedSequence:
    """What the tracker said of a sequence, its given box first."""

    boxes: NDArray[np.float64]
    """[n,4] x, y, w, h."""
    seconds: NDArray[np.float64]
    """[n] the tracker's time, the first for starting; reading images is left out."""


@dataclass(frozen=True)
class Crew:
    """All that another process needs to track as this one would."""

    bundle: Path
    runtime: str
    precision: str
    device: str
    settings: TrackerProtocol
    checkpoint: Path | None = None
    threads: int | None = None

    def open_runtime(self) -> Runtime:
        """The same runtime, in this process."""
        return open_runtime(
            self.bundle,
            self.runtime,
            self.precision,
            checkpoint=self.checkpoint,
            threads=self.threads,
        )

    def open_tracker(self) -> SequenceTracker:
        """The same tracker, in this process."""
        return Tracker(self.open_runtime(), self.settings, color="bgr")

    def share_cores(self, jobs: int) -> Crew:
        """For processes that do not get in each other's way."""
        return replace(self, threads=max(1, count_cores() // jobs))


@dataclass(frozen=True)
class PeerCrew:
    """The same for a tracker that is no bundle."""

    word: str
    """As `--tracker` has it."""
    device: str = "cpu"
    threads: int | None = None

    def open_tracker(self) -> SequenceTracker:
        """The same tracker, in this process."""
        if self.threads:
            cv2.setNumThreads(self.threads)
        return open_peer(self.word)

    def share_cores(self, jobs: int) -> PeerCrew:
        """For processes that do not get in each other's way."""
        return replace(self, threads=max(1, count_cores() // jobs))


Tracked = Iterator[tuple[ImageSequence, TrackedSequence]]


def track_sequence(
    sequence: ImageSequence, tracker: SequenceTracker, stop: Stop, advance: Callable[[], None]
) -> TrackedSequence | None:
    """Start on the first true box and follow it to the end; None when stopped before."""
    rows: list[tuple[float, ...]] = []
    with closing(read_images(sequence.images)) as frames:
        for frame in frames:
            start = time.perf_counter()
            try:
                box = tracker.update(frame).box if rows else _start(tracker, frame, sequence)
            except InputError as error:
                place = f"sequence {sequence.name}, frame {len(rows)}"
                raise SourceError(f"{place}: {error}") from None
            rows.append((*box, time.perf_counter() - start))
            advance()
            if stop.is_set():
                return None
    table = np.array(rows, np.float64)
    return TrackedSequence(table[:, :4], table[:, 4])


def track_here(
    tracker: SequenceTracker,
    sequences: Sequence[ImageSequence],
    stop: Stop,
    advance: Callable[[], None],
) -> Tracked:
    """One sequence after the other, until all are done or the user wants to stop."""
    for sequence in sequences:
        tracked = track_sequence(sequence, tracker, stop, advance)
        if tracked is None:
            return
        yield sequence, tracked


def track_in_processes(
    crew: Crew | PeerCrew,
    sequences: Sequence[ImageSequence],
    jobs: int,
    stop: Stop,
    advance: Callable[[], None],
) -> Tracked:
    """As `track_here`, in fresh processes that each open the runtime; as they are done."""
    context = multiprocessing.get_context("spawn")
    halt = context.Event()
    crew = crew.share_cores(jobs)
    pool = ProcessPoolExecutor(jobs, context, _enlist, (crew, halt))
    try:
        pending = {pool.submit(_track_in_worker, sequence): sequence for sequence in sequences}
        while pending and not stop.is_set():
            for future in _await_any(pending):
                sequence, tracked = pending.pop(future), future.result()
                if tracked is not None:
                    for _ in sequence.images:
                        advance()
                    yield sequence, tracked
    except BrokenProcessPool:
        raise RuntimeUnavailable(
            "a process of `--jobs` ended by itself",
            found="out of memory, most likely",
            fix="ask for fewer jobs; what is done is kept",
        ) from None
    finally:
        halt.set()
        pool.shutdown(cancel_futures=True)


def _start(tracker: SequenceTracker, frame: Frame, sequence: ImageSequence) -> Box:
    box = read_box(sequence.boxes[0])
    tracker.init(frame, box)
    return box


def _await_any(pending: dict[Future[TrackedSequence | None], ImageSequence]) -> set[Any]:
    return wait(pending, POLL_SECONDS, FIRST_COMPLETED).done


_tracker: SequenceTracker | None = None
_crew: Crew | PeerCrew
_halt: Stop


def _enlist(crew: Crew | PeerCrew, halt: Stop) -> None:
    """Prepare a worker: Ctrl-C is its parent's to answer."""
    global _crew, _halt
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _crew, _halt = crew, halt


def _track_in_worker(sequence: ImageSequence) -> TrackedSequence | None:
    # Opened here and not when enlisted, so that a refusal comes back as it was said.
    global _tracker
    if _tracker is None:
        _tracker = _crew.open_tracker()
    return track_sequence(sequence, _tracker, _halt, lambda: None)
