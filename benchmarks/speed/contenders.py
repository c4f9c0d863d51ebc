"""The contenders of a benchmark: trackers on runtimes, and other trackers (peers)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from relo_edge.benchmarks.speed.power import PowerMeter
from relo_edge.geometry import Box
from relo_edge.measures.timed_runtime import TimedRuntime, read_step_stages
from relo_edge.peers.peer import Peer
from relo_edge.runtime import Runtime
from relo_edge.tracker import MultiTracker
from relo_edge.video.opening import Frame

__all__ = ["Contender", "Lap", "PeerContender", "RuntimeContender"]

WARM_UP = 2
"""Frames of each turn that are not counted."""

PAUSE = 0.1
"""Seconds before each turn, in which the others' threads stop spinning."""


@dataclass(frozen=True)
class Lap:
    """One frame's time, in seconds, and the parts of it."""

    total: float
    stages: dict[str, float]


class Contender(ABC):
    """A tracker whose frames are timed, turn by turn."""

    name: str
    precision: str
    device: str
    batch: int

    def __init__(self) -> None:
        self.turns: list[list[Lap]] = []
        self.joules: list[float] = []
        """Of a frame, turn by turn; nothing where power is not measured."""

    def take_turn(self, frames: Sequence[Frame], meter: PowerMeter) -> None:
        """Track the frames; those after the warm-up count."""
        time.sleep(PAUSE)
        start = time.perf_counter()
        self.turns.append([self.time_update(frame) for frame in frames][WARM_UP:])
        end = time.perf_counter()
        watts = meter.measure_watts(start, end)
        if watts is not None:
            self.joules.append(watts * (end - start) / len(frames))

    def time_clip(self, frames: Generator[Frame, None, None]) -> tuple[float, float]:
        """Frames per second from decoding to box, and the median seconds of decoding."""
        decoding, start = [], time.perf_counter()
        with closing(frames):
            while True:
                before = time.perf_counter()
                frame = next(frames, None)
                if frame is None:
                    break
                decoding.append(time.perf_counter() - before)
                self.time_update(frame)
        return len(decoding) / (time.perf_counter() - start), float(np.median(decoding))

    @property
    def laps(self) -> list[Lap]:
        """Every frame that counts."""
        return [lap for turn in self.turns for lap in turn]

    @abstractmethod
    def time_update(self, frame: Frame) -> Lap:
        """Track one frame."""


class RuntimeContender(Contender):
    """As many targets as the runtime has slots, all started on the same box."""

    def __init__(self, runtime: Runtime, first: Frame, box: Box) -> None:
        super().__init__()
        self.runtime = runtime
        self.name, self.precision = runtime.name, runtime.precision
        self.device, self.batch = runtime.device, runtime.batch
        self._timed = TimedRuntime(runtime)
        self._tracker = MultiTracker(self._timed, color="bgr")
        for _ in range(runtime.batch):
            self._tracker.add(first, box)

    def time_update(self, frame: Frame) -> Lap:
        """Cropping ends where the step begins, the boxes are read from where it ends."""
        self._timed.steps.clear()
        start = time.perf_counter()
        self._tracker.update(frame)
        end = time.perf_counter()
        ((began, ended),) = self._timed.steps
        stages = {"crop": began - start, "network": ended - began, "decode_box": end - ended}
        for name, milliseconds in read_step_stages(self.runtime).items():
            stages[name] = milliseconds / 1e3
            if name in ("copy_in", "copy_out"):
                stages["network"] -= stages[name]
        return Lap(end - start, stages)


class PeerContender(Contender):
    """A tracker that is no bundle: another tracker, so it has a speed but no parity."""

    batch = 1

    def __init__(self, peer: Peer, first: Frame, box: Box) -> None:
        super().__init__()
        self.name, self.precision, self.device = peer.name, peer.precision, peer.device
        self._peer = peer
        peer.init(first, box)

    def time_update(self, frame: Frame) -> Lap:
        """The peer's update as a whole."""
        start = time.perf_counter()
        self._peer.update(frame)
        return Lap(time.perf_counter() - start, {})
