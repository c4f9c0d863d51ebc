"""Lost targets that were named in words: the finder is asked again, now and then."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
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

    frame: FeedFrame
    box: Box | None = None
    done: bool = False

    def ask(self, finder: Finder, words: str) -> None:
        try:
            self.box = finder.find(self.frame.image, words)
        except ReloError as error:
            log.warning("%r is not found again: %s", words, error)
        finally:
            self.done = True


class FindAgain:
    """Where lost targets are, as the finder has it: at most one question every so many seconds.

    A camera goes on meanwhile, and the answer comes with the frame that it is for; a file waits.
    """

    def __init__(
        self, finder: Finder, words: Mapping[int | str, str], every: float, *, wait: bool
    ) -> None:
        self._finder, self._words = finder, words
        self._every, self._wait = every, wait
        self._questions: dict[int | str, _Question] = {}
        self._asked: float | None = None

    def seek(
        self, name: int | str, frame: FeedFrame, stop: threading.Event
    ) -> tuple[FeedFrame, Box] | None:
        """A lost target's box and the frame that shows it there, once there is an answer."""
        question = self._questions.get(name) or self._ask(name, frame)
        if question is None:
            return None
        while self._wait and not question.done and not stop.wait(POLL_SECONDS):
            pass
        if not question.done:
            return None
        del self._questions[name]
        return None if question.box is None else (question.frame, question.box)

    def drop(self, name: int | str) -> None:
        """The target is followed again: whatever was asked is of no interest."""
        self._questions.pop(name, None)

    def _ask(self, name: int | str, frame: FeedFrame) -> _Question | None:
        early = self._asked is not None and frame.time - self._asked < self._every
        if name not in self._words or early:
            return None
        self._asked = frame.time
        question = self._questions[name] = _Question(frame)
        arguments = (self._finder, self._words[name])
        threading.Thread(target=question.ask, args=arguments, daemon=True).start()
        return question
