"""R1-Track: a vision-language model that tracks, behind an OpenAI-compatible server.

Crops, question, sampling and the rules for answers are those of the authors' inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from relo_edge.errors import FinderError, InputError
from relo_edge.finder.address import parse_address
from relo_edge.finder.answers import Corners, read_box_answer
from relo_edge.finder.chat import ChatClient
from relo_edge.geometry import Box, CropWindow, check_box, crop_into, place_crop
from relo_edge.peers.peer import Frame, unscored
from relo_edge.tracker import Track

__all__ = ["R1Track", "open_r1track", "write_question"]

SIDE = 336
"""Both crops' sides: a multiple of 28, which the model's own resize leaves alone."""

FACTOR = 4.0

SAMPLING = {"temperature": 0, "top_p": 0.5, "top_k": 20, "max_tokens": 512}

TIMEOUT = 60.0

QUESTION = (
    "Please identify the target specified by the bounding box [{}] in the first image and locate "
    "it in the second image. Return the coordinates in [x_min,y_min,x_max,y_max] format."
)

THINKING = (
    "Think first, inside <think> and </think>, and then give the result inside <answer> and "
    "</answer>: <think>thoughts</think><answer>result</answer>. "
)
"""Stands before the question to models that were trained to think."""


def write_question(corners: Corners, thinking: bool) -> str:
    """The text after the two pictures, the box in whole pixels of the first."""
    question = QUESTION.format(",".join(str(round(value)) for value in corners))
    return THINKING + question if thinking else question


class R1Track:
    """The first frame's crop beside the present one, asked about in every frame."""

    precision = "as served"

    def __init__(self, client: ChatClient, thinking: bool = False) -> None:
        self.name = "r1track-think" if thinking else "r1track"
        self._client, self._thinking = client, thinking
        self._template = np.empty((SIDE, SIDE, 3), np.uint8)
        self._question = ""
        self._box: Box | None = None

    @property
    def device(self) -> str:
        """The server."""
        return self._client.address.origin

    @property
    def identity(self) -> Mapping[str, Any]:
        """The model and how it is asked; the server's address changes no answer."""
        return {"tracker": self.name, "model": self._client.model, "sampling": SAMPLING}

    def init(self, frame: Frame, box: Box) -> None:
        """Keep the crop around the box, which never changes."""
        box = check_box(box, frame)
        window = place_crop(box, FACTOR, SIDE)
        crop_into(self._template, frame, window)
        self._question = write_question(_place_in_crop(box, window), self._thinking)
        self._box = box

    def update(self, frame: Frame) -> Track:
        """One request; an answer that is none, or touches the frame's edge, keeps the last box."""
        if self._box is None:
            raise InputError("the tracker has no target", fix="call init(frame, box) first")
        window = place_crop(self._box, FACTOR, SIDE)
        search = crop_into(np.empty_like(self._template), frame, window)
        answer = self._client.ask([self._template, search], self._question, SAMPLING)
        box = _read_answer(answer, window, frame)
        self._box = box or self._box
        return unscored(self._box, lost=box is None)


def _place_in_crop(box: Box, window: CropWindow) -> Corners:
    x, y, width, height = box
    left, right = ((side - window.left) * window.scale for side in (x, x + width))
    top, bottom = ((side - window.top) * window.scale for side in (y, y + height))
    # A long box reaches beyond its own crop.
    return (max(left, 0), max(top, 0), min(right, SIDE), min(bottom, SIDE))


def _read_answer(answer: str, window: CropWindow, frame: Frame) -> Box | None:
    try:
        corners = read_box_answer(answer)
    except FinderError:
        return None
    left, right = (window.left + value / window.scale for value in corners[::2])
    top, bottom = (window.top + value / window.scale for value in corners[1::2])
    height, width = frame.shape[:2]
    if left <= 0 or top <= 0 or right >= width or bottom >= height:
        return None
    return (left, top, right - left, bottom - top)


def open_r1track(where: str, thinking: bool) -> R1Track:
    """The tracker that a server's address names."""
    return R1Track(ChatClient(parse_address(where), TIMEOUT), thinking)
