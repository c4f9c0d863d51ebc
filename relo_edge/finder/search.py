"""`--find`: targets in words, where they are in the first frame, and again once they are lost."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from relo_edge.errors import FinderError, InputError
from relo_edge.finder.find_again import FindAgain
from relo_edge.finder.finders import Finder, FinderRequest, open_finder
from relo_edge.tracking.target_files import TargetStart, check_name
from relo_edge.video.feed import FeedFrame

__all__ = ["Search", "WordedTarget", "check_words", "parse_find"]

log = logging.getLogger("relo_edge")

LONGEST_WORDS = 200


@dataclass(frozen=True)
class WordedTarget:
    """A target by its words."""

    words: str
    name: int | str


def parse_find(text: str, number: int) -> WordedTarget:
    """The target in `--find WORDS` or `--find NAME=WORDS`; without a name its number is it."""
    name, equals, words = text.partition("=")
    if not equals:
        return WordedTarget(check_words(text), number)
    return WordedTarget(check_words(words), check_name(name))


def check_words(words: str, what: str = "--find") -> str:
    """Words that can be shown and asked."""
    words = words.strip()
    controls = any(unicodedata.category(letter) in ("Cc", "Cs", "Co") for letter in words)
    if not 0 < len(words) <= LONGEST_WORDS or controls:
        expected = f"1 to {LONGEST_WORDS} characters that can be shown"
        raise InputError(what, found=ascii(words[:60]), expected=expected)
    return words


@dataclass(frozen=True)
class Search:
    """The targets that are to be found, and who finds them."""

    wanted: tuple[WordedTarget, ...]
    finder: Finder
    every: float | None = None
    """Seconds between questions for lost targets; None asks none."""

    @classmethod
    def open(
        cls,
        find: Sequence[str],
        where: str | None,
        *,
        units: str,
        timeout: float,
        check: bool,
        every: float | None = None,
        taken: int = 0,
    ) -> Search:
        """The search in a command line; `taken` names are numbers of targets given by a box."""
        if not find:
            raise InputError("the finder has nothing to find", fix="add --find WORDS")
        if where is None:
            raise InputError("--find needs a finder", fix="add --finder URL")
        if every is not None and not 0 < every < 1e9:
            raise InputError("--find-again", found=every, expected="a number of seconds above 0")
        wanted = [parse_find(text, taken + number) for number, text in enumerate(find)]
        return cls(tuple(wanted), open_finder(FinderRequest(where, units, timeout, check)), every)

    def list_placeholders(self, first: int) -> list[TargetStart]:
        """As many starts as will be found, so that names are checked before anyone is asked."""
        return [TargetStart((0.0, 0.0, 1.0, 1.0), one.name, first) for one in self.wanted]

    def find_starts(self, frame: FeedFrame) -> list[TargetStart]:
        """Ask for each target in turn; one that is not found ends it all."""
        starts = []
        for one in self.wanted:
            try:
                box = self.finder.find(frame.image, one.words)
            except FinderError as error:
                raise FinderError(f"--find {one.words!r}: {error}") from None
            shown = ",".join(f"{value:.0f}" for value in box)
            log.info("found %s (%r) at %s", one.name, one.words, shown)
            starts.append(TargetStart(box, one.name, frame.number))
        return starts

    def open_again(self, *, wait: bool) -> FindAgain | None:
        """Who is asked for lost targets, if anyone."""
        if self.every is None:
            return None
        words = {one.name: one.words for one in self.wanted}
        return FindAgain(self.finder, words, self.every, wait=wait)
