"""The contenders of a benchmark: trackers on runtimes, and other trackers (peers)."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relo_edge.benchmarks.speed.power import PowerMeter
from relo_edge.errors import InputError, MissingDependency
from relo_edge.geometry import Box
from relo_edge.host.native_stderr import silence_native_stderr
from relo_edge.host.opencv import cv2
from relo_edge.measures.timed_runtime import TimedRuntime
from relo_edge.runtime import Runtime, read_step_stages
from relo_edge.tracker import MultiTracker
from relo_edge.video.opening import Frame

__all__ = ["Contender", "Lap", "PeerContender", "RuntimeContender", "open_peer"]

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
    """One of OpenCV's own trackers: another tracker, so it has a speed but no parity."""

    precision, device, batch = "fp32", "cpu", 1

    def __init__(self, name: str, tracker: Any, first: Frame, box: Box) -> None:
        super().__init__()
        self.name, self._tracker = name, tracker
        with silence_native_stderr():
            tracker.init(first, tuple(round(side) for side in box))

    def time_update(self, frame: Frame) -> Lap:
        """OpenCV's update as a whole."""
        start = time.perf_counter()
        self._tracker.update(frame)
        return Lap(time.perf_counter() - start, {})


def open_peer(word: str, first: Frame, box: Box) -> PeerContender:
    """`vit=MODEL` or `nano=BACKBONE,HEAD`: ONNX files as OpenCV's model zoo has them."""
    kind, _, files = word.partition("=")
    paths = [Path(name) for name in files.split(",")] if files else []
    if kind not in PEERS or len(paths) != PEERS[kind][0]:
        expected = "compile, vit=MODEL.onnx or nano=BACKBONE.onnx,HEAD.onnx"
        raise InputError("peer", found=repr(word), expected=expected)
    for path in paths:
        if not path.is_file():
            raise InputError(f"peer {kind}", found=f"no file {path}")
    try:
        with silence_native_stderr():
            tracker = PEERS[kind][1](*map(str, paths))
    except AttributeError:
        fix = "`pip install 'opencv-python>=4.10'`"
        found = f"OpenCV {cv2.__version__}"
        raise MissingDependency(f"no {kind} tracker in OpenCV", found=found, fix=fix) from None
    except cv2.error as error:
        found = error.err or "an error in OpenCV"
        raise InputError(f"peer {word!r} does not open", found=found) from None
    return PeerContender(f"opencv-{kind}", tracker, first, box)


def _create_vit(model: str) -> Any:
    library: Any = cv2  # its type stubs leave the parameters out
    parameters = library.TrackerVit_Params()
    parameters.net = model
    return cv2.TrackerVit.create(parameters)


def _create_nano(backbone: str, head: str) -> Any:
    library: Any = cv2
    parameters = library.TrackerNano_Params()
    parameters.backbone, parameters.neckhead = backbone, head
    return cv2.TrackerNano.create(parameters)


PEERS: dict[str, tuple[int, Callable[..., Any]]] = {
    "vit": (1, _create_vit),
    "nano": (2, _create_nano),
}
