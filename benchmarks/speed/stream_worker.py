"""The child of `bench --streams`: some streams on one runtime, timed for so long when told to."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice

from relo_edge.benchmarks.speed.startup import read_peak_mb
from relo_edge.geometry import read_box
from relo_edge.host.opencv import cv2
from relo_edge.runtime import open_runtime
from relo_edge.streams.sharing import SharedRuntime, StreamTracker
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import MultiTracker
from relo_edge.video.opening import Frame
from relo_edge.video.sources.synthetic_camera import order_frames

SIZE = (1280, 720)
FRAMES = 8
WARM_UP = 3


class _Stream:
    """One stream: a target in frames that come as fast as they are tracked."""

    def __init__(self, tracker: MultiTracker, seed: int) -> None:
        clip = make_clip(seed, FRAMES, SIZE)
        frames = list(clip.frames())
        self._tracker = tracker
        self._frames: Iterator[Frame] = (frames[number] for number in order_frames(FRAMES))
        tracker.add(next(self._frames), read_box(clip.boxes[0]))
        for frame in islice(self._frames, WARM_UP):
            self._tracker.update(frame)

    def run(self, seconds: float) -> list[float]:
        """The milliseconds of each frame."""
        taken, now = [], time.perf_counter()
        end = now + seconds
        while now < end:
            self._tracker.update(next(self._frames))
            before, now = now, time.perf_counter()
            taken.append(1e3 * (now - before))
        return taken


def _run_together(streams: list[_Stream], seconds: float) -> list[list[float]]:
    found: list[list[float]] = [[] for _ in streams]

    def run(place: int) -> None:
        found[place] = streams[place].run(seconds)

    _join([lambda n=n: run(n) for n in range(len(streams))])  # type: ignore[misc]
    return found


def _join(calls: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _main(text: str) -> None:
    """Open, say so, then answer each number of seconds with the frames' times."""
    asked = json.loads(text)
    seeds, opening = asked["seeds"], asked["opening"]
    cv2.setNumThreads(1)
    with closing(open_runtime(**opening, batch=len(seeds))) as runtime:
        shared = SharedRuntime(runtime)
        trackers = [
            StreamTracker(shared.share(1), color="bgr")
            if len(seeds) > 1
            else MultiTracker(runtime, color="bgr")
            for _ in seeds
        ]
        streams: list[_Stream] = []
        _join([lambda p=p: streams.append(_Stream(*p)) for p in zip(trackers, seeds, strict=True)])  # type: ignore[misc]
        facts = {"runtime": runtime.name, "precision": runtime.precision, "device": runtime.device}
        print(json.dumps(facts), flush=True)
        for line in sys.stdin:
            begin = time.process_time()
            found = _run_together(streams, float(line))
            used = 1e3 * (time.process_time() - begin)
            answer = {"times_ms": found, "cpu_ms": used, "memory_mb": read_peak_mb()}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
