"""Targets in words on the page: the finder is asked on a thread of its own."""

from __future__ import annotations

import threading
from concurrent.futures import Future

from relo_edge.errors import InputError, ReloError
from relo_edge.finder.finders import Finder
from relo_edge.finder.search import check_words
from relo_edge.geometry import Box
from relo_edge.video.sources.frames import Frame

__all__ = ["PageFinder"]


class PageFinder:
    """One question at a time, whoever asks: a page cannot flood the finder."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder
        self._busy = threading.Lock()

    def ask(self, image: Frame, words: str) -> Future[Box]:
        """Where the words' target is in this image; the future holds the box or the refusal."""
        done: Future[Box] = Future()
        try:
            words = check_words(words, "words")
            if not self._busy.acquire(blocking=False):
                raise InputError("the finder is still answering", fix="ask again in a moment")
        except ReloError as error:
            done.set_exception(error)
            return done
        threading.Thread(target=self._answer, args=(done, image, words), daemon=True).start()
        return done

    def _answer(self, done: Future[Box], image: Frame, words: str) -> None:
        try:
            box = self._finder.find(image, words)
        except Exception as error:
            self._busy.release()
            done.set_exception(error)  # whatever it was, the page waits for an answer
        else:
            self._busy.release()
            done.set_result(box)
