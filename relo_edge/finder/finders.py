"""What finds a target by its words: a model behind a server, or a detector in this process."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import FinderError, InputError
from relo_edge.finder.address import parse_address
from relo_edge.finder.answers import read_box_answer
from relo_edge.finder.chat import ChatClient
from relo_edge.finder.units import UNITS, choose_units, corners_to_box, shrink_picture
from relo_edge.geometry import Box, box_iou

__all__ = ["Finder", "FinderRequest", "open_finder"]

log = logging.getLogger("relo_edge")

Frame = NDArray[np.uint8]

TRANSFORMERS = "transformers:"
SAMPLING = {"temperature": 0, "max_tokens": 1024}

AGREEMENT = 0.5
"""Overlap of two answers from which on they name the same box."""

SECOND_SIZE = 756
"""The longest side of the second picture: wrong units put its box elsewhere."""

SYSTEMS = {
    "pixels": "in pixels of this image",
    "thousand": "in thousandths of the image's width and height, from 0 to 1000",
}


class Finder(Protocol):
    """Whatever turns words into a box."""

    def find(self, frame: Frame, words: str) -> Box:
        """The box of the one target that the words name in this frame (blue first)."""


@dataclass(frozen=True)
class FinderRequest:
    """Which finder, and how it is asked."""

    where: str
    """The address of a server, or `transformers:MODEL`."""
    units: str = "auto"
    timeout: float = 60.0
    """Seconds for a question and its answer, retries included."""
    check: bool = False
    """Whether a second answer, to a picture of another size, must name the same box."""

    def __post_init__(self) -> None:
        if not 0 < self.timeout < 1e6:
            raise InputError(
                "--finder-timeout", found=self.timeout, expected="a number of seconds above 0"
            )
        if self.units not in ("auto", *UNITS):
            choose_units(self.units, "")


def open_finder(request: FinderRequest) -> Finder:
    """The finder asked for; nothing is sent before it is asked to find.

    Raises:
        InputError: an address that is none, or a model that cannot be read.
        MissingDependency: `transformers:` without that package.
    """
    if request.where.startswith(TRANSFORMERS):
        from relo_edge.finder.local_detector import LocalDetector

        return LocalDetector(request.where.removeprefix(TRANSFORMERS))
    client = ChatClient(parse_address(request.where), request.timeout)
    if not client.address.local:
        log.info("a picture of the source is sent to %s", client.address.origin)
    return ServerFinder(client, request.units, request.check)


class ServerFinder:
    """A vision-language model behind an OpenAI-compatible server."""

    def __init__(self, client: ChatClient, units: str, check: bool = False) -> None:
        self._client, self._units, self._check = client, units, check

    def find(self, frame: Frame, words: str) -> Box:
        """One request; a second one where the first is to be checked."""
        box = self._ask(frame, shrink_picture(frame), words)
        if self._check:
            second = self._ask(frame, shrink_picture(frame, SECOND_SIZE), words)
            overlap = box_iou(box, second)
            if overlap < AGREEMENT:
                raise FinderError(
                    "two answers of the finder name different boxes",
                    found=f"an overlap of {overlap:.2f}",
                    expected=f"{AGREEMENT} or more",
                    fix="check --finder-units, or describe the target more exactly",
                )
        return box

    def _ask(self, frame: Frame, picture: Frame, words: str) -> Box:
        units = choose_units(self._units, self._client.model)
        sent = (picture.shape[1], picture.shape[0])
        question = (
            f"Where in this image of {sent[0]} x {sent[1]} pixels is the following? {words}\n"
            f'Answer in JSON alone, {{"bbox_2d": [x_min, y_min, x_max, y_max]}}, '
            f'{SYSTEMS[units]}. If it is not there, answer {{"bbox_2d": null}}.'
        )
        corners = read_box_answer(self._client.ask([picture], question, SAMPLING))
        return corners_to_box(corners, units, sent, (frame.shape[1], frame.shape[0]))
