"""Cameras that do as a test tells them, and a look at what a process holds."""

import contextlib
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from relo_edge.errors import SourceError
from relo_edge.video.sources.frames import FrameSource


class ScriptedCamera:
    """Opens again and again; each life gives some frames and then ends as its script says.

    A life is (frames, end): "stop" breaks, "hang" waits until it is interrupted, "refuse" does not
    even open, "end" is a proper end.
    """

    def __init__(self, *lives, live=True, pause=0.002):
        self.lives, self.live, self.pause = list(lives), live, pause
        self.opened, self.closed = 0, 0
        self.number = 0

    def __call__(self):
        frames, end = self.lives.pop(0)
        self.opened += 1
        if end == "refuse":
            raise SourceError("camera x does not open")
        freed = threading.Event()
        return FrameSource(
            "camera x",
            self._give(frames, end, freed),
            live=self.live,
            release=self._count_close,
            interrupt=freed.set,
        )

    def _count_close(self):
        self.closed += 1

    def _give(self, frames, end, freed):
        for _ in range(frames):
            time.sleep(self.pause)
            self.number += 1
            yield number_frame(self.number - 1)
        if end == "hang":
            assert freed.wait(10), "nobody interrupted it"
        if end != "end":
            raise SourceError("camera x stopped", found=f"nothing after {frames} frames")


def number_frame(number, size=(64, 64)):
    """A frame that tells its number."""
    frame = np.zeros((size[1], size[0], 3), np.uint8)
    frame[0, :3, 0] = number % 256, number // 256 % 256, number // 65536
    return frame


def read_number(frame):
    low, middle, high = (int(value) for value in frame[0, :3, 0])
    return low + 256 * middle + 65536 * high


def list_holdings():
    """The process's threads, open files and child processes."""
    files = len(list(Path("/proc/self/fd").iterdir()))
    threads = sorted(thread.name for thread in threading.enumerate())
    return threads, files, list_children()


def list_additions(before):
    """What is held now and was not before; what an earlier test left may have been collected."""
    threads, files, children = list_holdings()
    added = [*(Counter(threads) - Counter(before[0])).elements()]
    added += sorted(set(children) - set(before[2]))
    return added + [f"{files - before[1]} files"] * (files > before[1])


def list_children():
    children = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that just ended
            children += (task / "children").read_text().split()
    return children


def find_child(program):
    """The one child that runs this program; other tests may have left helpers of theirs."""
    (child,) = (
        int(child)
        for child in list_children()
        if Path(f"/proc/{child}/comm").read_text().startswith(program)
    )
    return child
