"""Lost targets that were named in words: the finder is asked again, now and then."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from relo_edge.errors import ReloError
from relo_edge.finder.finders import Finder
from relo_edge.geometry import Box
from relo_edge.video.feed import FeedFrame

__all__ = ["FindAgain"]

log = logging.getLogger("relo_edge")

POLL_SECONDS = 0.1


@dataclass
class _Question:
    """One question, asked on a thread of its own."""

    name: int | str
    frame: FeedFrame
    box: Box | None = None
    done: bool = False
    stale: bool = False
    """Whether the target was followed again meanwhile: the answer is of no interest."""

    def ask(self, finder: Finder, words: str) -> None:
        try:
            self.box = finder.find(self.frame.image, words)
        except ReloError as error:
            log.warning("%r is not found again: %s", words, error)
        finally:
            self.done = True


class FindAgain:
    """Where lost targets are, as the finder has it: at most one question every so many seconds.

    Several lost targets take turns. A camera goes on meanwhile, and the answer comes with the frame
    that it is for; a file waits.
    """

    def __init__(
        self, finder: Finder, words: Mapping[int | str, str], every: float, *, wait: bool
    ) -> None:
        self._finder, self._words = finder, words
        self._every, self._wait = every, wait
        self._question: _Question | None = None
        self._asked: dict[int | str, float] = {}
        """When each target was last asked for."""

    def seek(
        self, lost: Collection[int | str], frame: FeedFrame, stop: threading.Event
    ) -> tuple[int | str, FeedFrame, Box] | None:
        """A lost target, the frame that shows it and its box there, once there is an answer.

        To be called with every frame, so that it is known who is followed again.
        """
        question = self._question = self._question or self._ask(lost, frame)
        if question is None:
            return None
        question.stale |= question.name not in lost
        while self._wait and not question.done and not stop.wait(POLL_SECONDS):
            pass
        if not question.done:
            return None
        self._question = None
        if question.stale or question.box is None:
            return None
        return question.name, question.frame, question.box

    def _ask(self, lost: Collection[int | str], frame: FeedFrame) -> _Question | None:
        """Ask for the target that was not asked for longest, if it is time."""
        early = frame.time - max(self._asked.values(), default=-math.inf) < self._every
        known = [name for name in lost if name in self._words]
        if early or not known:
            return None
        name = min(known, key=lambda name: self._asked.get(name, -math.inf))
        self._asked[name] = frame.time
        question = _Question(name, frame)
        arguments = (self._finder, self._words[name])
        threading.Thread(target=question.ask, args=arguments, daemon=True).start()
        return question
