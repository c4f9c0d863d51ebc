"""A viewer without a browser, that notes what a page must never see."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any

import numpy as np

from relo_edge.errors import SourceError
from relo_edge.host.opencv import cv2
from relo_edge.video.sources.frames import Frame

__all__ = ["SoakViewer", "stamp_frame"]

BITS = 24
BLOCK = 16
"""Pixels of a bit: so large that JPEG leaves it."""

ANSWER_SECONDS = 60.0
"""Seconds in which an answer has to come."""


def stamp_frame(image: Frame, number: int) -> Frame:
    """Write a number into the bottom rows, in blocks of black and white."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, BLOCK)
    image[-BLOCK:, : row.size] = row[None, :, None]
    return image


def read_stamp(image: Frame) -> int:
    """The number that was written."""
    middle = BLOCK // 2
    row = image[-middle, middle : BITS * BLOCK : BLOCK, 0] > 127
    return sum(int(bit) << place for place, bit in enumerate(row))


class SoakViewer:
    """Shows every picture it gets, and checks that no later one is older."""

    def __init__(self, port: int, path: str = "/live") -> None:
        from websockets.sync.client import connect
        from websockets.typing import Origin

        self._stack = ExitStack()
        place = f"127.0.0.1:{port}"
        opening = connect(f"ws://{place}{path}", origin=Origin(f"http://{place}"))
        self._line = self._stack.enter_context(opening)
        self.state: dict[str, Any] = {}
        self.pictures = 0
        self.order_broken = 0
        """Pictures that were older than one before."""
        self.ages: list[float] = []
        """Milliseconds from capture to here, as the server measures them."""
        self.picture: int | None = None
        self._stamp = -1
        self._asked = 0
        self._answers: dict[int, dict[str, Any]] = {}

    def watch(self, seconds: float) -> None:
        """Take whatever comes for so long."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._hear(left)

    def ask(self, do: str, **fields: object) -> dict[str, Any]:
        """The answer to a command."""
        self._asked += 1
        number, end = self._asked, time.monotonic() + ANSWER_SECONDS
        self._line.send(json.dumps({"do": do, "id": number, **fields}))
        while number not in self._answers:
            if time.monotonic() > end:
                raise SourceError(f"no answer to {do}", found=f"{ANSWER_SECONDS:g} s of waiting")
            self._hear(1.0)
        return self._answers.pop(number)

    def close(self) -> None:
        """Leave."""
        self._stack.close()

    def _hear(self, seconds: float) -> None:
        try:
            message = self._line.recv(seconds)
        except TimeoutError:
            return
        if isinstance(message, bytes):
            self._show(message)
            return
        note = json.loads(message)
        if note["type"] == "state":
            self.state = note
        elif note["type"] in ("done", "error"):
            self._answers[note["id"]] = note
        elif note.get("shown_ms") is not None:
            self.ages.append(note["shown_ms"])

    def _show(self, message: bytes) -> None:
        length = int.from_bytes(message[:4], "big")
        picture = json.loads(message[4 : 4 + length])["picture"]
        decoded = cv2.imdecode(np.frombuffer(message[4 + length :], np.uint8), cv2.IMREAD_COLOR)
        stamp = read_stamp(np.asarray(decoded, np.uint8))
        older = self.picture is not None and picture <= self.picture
        self.order_broken += older or stamp < self._stamp
        self.picture, self._stamp = picture, stamp
        self.pictures += 1
        self._line.send(json.dumps({"do": "seen", "picture": picture}))
