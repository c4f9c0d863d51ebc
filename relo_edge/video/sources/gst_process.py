"""A `gst-launch-1.0` that writes raw frames to a pipe."""

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
"""What the sink is about to get, in the words of `gst-launch-1.0 -v`."""

COMPLAINT = re.compile(r"(?:ERROR|WARNING): (?:from element \S+: |erroneous pipeline: )?(.+)")

START_SECONDS = 15.0
"""A camera may take seconds to start; one that needs more does not come."""

END_SECONDS = 2.0


def has_command() -> bool:
    """Whether the child can be started here."""
    return shutil.which(COMMAND) is not None


class GstProcess:
    """The child process; its words are read beside its frames, which tell nothing of themselves."""

    def __init__(self, words: list[str], name: str) -> None:
        program = shutil.which(COMMAND)
        if program is None:
            raise MissingDependency(
                f"{name} needs GStreamer",
                found=f"no {COMMAND}, and an OpenCV without it",
                fix="`apt-get install gstreamer1.0-tools gstreamer1.0-plugins-good`",
            )
        self.name = name
        self.fps = DEFAULT_FPS
        self._size = (0, 0)
        self._resized = False
        self._complaints: deque[str] = deque(maxlen=4)
        self._caps_known = threading.Event()
        reading, writing = os.pipe()
        sink = ["!", "fdsink", f"name={SINK}", f"fd={writing}", "sync=false"]
        try:
            self._child = subprocess.Popen(
                [program, "-v", *words, *sink],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=(writing,),
                start_new_session=True,  # a Ctrl-C is for us to pass on
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        self._pipe = os.fdopen(reading, "rb", buffering=0)
        self._listener = threading.Thread(target=self._listen, name="gst-words", daemon=True)
        self._listener.start()
        self._await_caps()

    def frames(self) -> Generator[Frame, None, None]:
        """Each frame as a new array, to the pipeline's end; a break is an error."""
        while (frame := self._read_frame()) is not None:
            yield frame
        failed = self._await_end()
        self._listener.join()
        if failed or self._resized:
            raise SourceError(f"{self.name} stopped", found=self._describe_end())

    def kill(self) -> None:
        """End the child at once; a read that waits for it returns."""
        self._child.kill()

    def close(self) -> None:
        """End the child and what belongs to it; closing twice is fine."""
        if not self._pipe.closed:
            self._pipe.close()
            self._child.terminate()
            self._await_end()
            self._listener.join()

    def _await_end(self) -> int:
        """How the child ended; one that does not end is ended."""
        try:
            return self._child.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()

    def _listen(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as words:
            for line in words:
                if caps := CAPS.search(line):
                    size = (int(caps[1]), int(caps[2]))
                    if self._size not in ((0, 0), size):
                        # What is in the pipe can no longer be told apart.
                        self._resized = True
                        self._complaints.appendleft("a picture of another size")
                        self.kill()
                        continue
                    self._size = size
                    rate = float(Fraction(caps[3] or 0))
                    self.fps = rate if 1 <= rate <= 1000 else DEFAULT_FPS
                    self._caps_known.set()
                elif complaint := COMPLAINT.match(line):
                    self._complaints.append(complaint[1].strip())
        self._caps_known.set()  # or never: whoever waits need wait no longer

    def _await_caps(self) -> None:
        in_time = self._caps_known.wait(START_SECONDS)
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
        return self._complaints[0] if self._complaints else "no reason given by GStreamer"

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
