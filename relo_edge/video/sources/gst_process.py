"""A `gst-launch-1.0` child process that writes raw frames to a pipe."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Generator
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import MissingDependency, SourceError
from relo_edge.video.sources.frames import DEFAULT_FPS, Frame

__all__ = ["GstProcess", "has_command"]

COMMAND = "gst-launch-1.0"
SINK = "relo_edge"

CAPS = re.compile(
    rf"{SINK}\.GstPad:sink: caps = .*\bwidth=\(int\)(\d+), height=\(int\)(\d+)"
    r"(?:.*framerate=\(fraction\)(\d+/[1-9]\d*))?"
)
"""The sink's format, as `gst-launch-1.0 -v` prints it."""

MODE = re.compile(r"Pipeline is (live|PREROLLING)")
"""Whether frames come in real time or when they are asked for; GStreamer itself knows."""

ERROR_LINE = re.compile(r"(?:ERROR|WARNING): (?:from element \S+: |erroneous pipeline: )?(.+)")

START_SECONDS = 30.0
"""A camera may take seconds to start; one that takes longer does not start."""

END_SECONDS = 2.0


def has_command() -> bool:
    """Whether the command is installed."""
    return shutil.which(COMMAND) is not None


class GstProcess:
    """The child process; its messages tell what its raw frames do not: size, rate and mode."""

    live = False
    """Whether GStreamer calls the pipeline live; any other is read like a file."""

    def __init__(self, arguments: list[str], name: str) -> None:
        program = shutil.which(COMMAND)
        if program is None:
            raise MissingDependency(
                f"{name} needs {COMMAND} or an OpenCV with GStreamer, and neither is installed",
                fix="`apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good`",
            )
        self.name = name
        self.fps = DEFAULT_FPS
        self._size = (0, 0)
        self._resized = False
        self._errors: deque[str] = deque(maxlen=4)
        self._mode_known = False
        self._ready = threading.Event()
        reading, writing = os.pipe()
        sink = ["!", "fdsink", f"name={SINK}", f"fd={writing}", "sync=false"]
        try:
            self._child = subprocess.Popen(
                [program, "-v", *arguments, *sink],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env={**os.environ, "LC_ALL": "C"},  # its messages are parsed below
                pass_fds=(writing,),
                start_new_session=True,  # Ctrl-C is for the parent to pass on
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._pipe = os.fdopen(reading, "rb", buffering=0)
        self._listener = threading.Thread(target=self._listen, name="gst-messages", daemon=True)
        self._listener.start()
        self._await_start()

    def frames(self) -> Generator[Frame, None, None]:
        """Each frame as a new array, to the end of the pipeline; a break is an error."""
        while (frame := self._read_frame()) is not None:
            yield frame
        failed = self._await_end()
        self._listener.join()
        if failed or self._resized:
            raise SourceError(f"{self.name} stopped", found=self._describe_end())

    def kill(self) -> None:
        """End the child at once; a waiting read returns."""
        self._child.kill()

    def close(self) -> None:
        """End the child and its threads; closing twice is fine."""
        if not self._pipe.closed:
            self._pipe.close()
            self._child.terminate()
            self._await_end()
            self._listener.join()

    def _await_end(self) -> int:
        """The exit status; a child that does not end is killed."""
        try:
            return self._child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as messages:
            for line in messages:
                if mode := MODE.match(line):
                    self.live, self._mode_known = mode[1] == "live", True
                elif caps := CAPS.search(line):
                    size = (int(caps[1]), int(caps[2]))
                    if self._size not in ((0, 0), size):
                        # Old and new frames in the pipe cannot be told apart.
                        self._resized = True
                        self._errors.appendleft("frames of another size")
                        self.kill()
                        continue
                    self._size = size
                    rate = float(Fraction(caps[3] or 0))
                    self.fps = rate if 1 <= rate <= 1000 else DEFAULT_FPS
                elif error := ERROR_LINE.match(line):
                    self._errors.append(error[1].strip())
                if self._mode_known and self._size != (0, 0):
                    self._ready.set()
        self._ready.set()  # the child has ended: there is nothing to wait for

    def _await_start(self) -> None:
        in_time = self._ready.wait(START_SECONDS)
        if self._size == (0, 0):
            self.kill()
            self.close()
            found = self._describe_end() if in_time else f"no frame within {START_SECONDS:g} s"
            raise SourceError(
                f"{self.name} does not start",
                found=found,
                fix="try it with gst-launch-1.0 and `! fakesink`",
            )

    def _describe_end(self) -> str:
        return self._errors[0] if self._errors else "no reason given by GStreamer"

    def _read_frame(self) -> Frame | None:
        width, height = self._size
        # GStreamer fills each row of a picture up to a multiple of four bytes.
        rows: NDArray[np.uint8] = np.empty((height, (3 * width + 3) // 4 * 4), np.uint8)
        left = rows.reshape(-1).data
        while left:
            count = self._pipe.readinto(left)
            if not count:
                return None
            left = left[count:]
        return np.ascontiguousarray(rows[:, : 3 * width]).reshape(height, width, 3)
