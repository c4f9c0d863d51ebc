"""A sentence in CLIP's token ids."""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import InputError

__all__ = ["CONTEXT", "VOCABULARY", "WORDS", "Vocabulary", "list_word_ids"]

WORDS, VOCABULARY = "words", "vocabulary.txt.gz"
"""A bundle's graph from token ids to a target's tensor, and the file that makes the ids."""

CONTEXT = 77
MERGES = 49152 - 256 - 2
"""Of the file's lines after the first, those that CLIP uses."""

PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+", re.IGNORECASE)
END_OF_WORD = "</w>"


@dataclass(frozen=True)
class Vocabulary:
    """CLIP's byte pairs, in the order in which they are merged."""

    merges: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """The file that CLIP's authors publish as bpe_simple_vocab_16e6.txt.gz.

        Raises:
            InputError: it is not that file.
        """
        try:
            lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
            merges = [tuple(line.split()) for line in lines[1 : MERGES + 1]]
        except (OSError, EOFError, zlib.error, UnicodeError) as error:
            raise InputError(f"vocabulary {path}", found=error, expected="a gzip of text") from None
        if len(merges) != MERGES or any(len(pair) != 2 for pair in merges):
            found = f"{len(merges)} lines"
            raise InputError(f"vocabulary {path}", found=found, expected=f"{MERGES} pairs")
        return cls(tuple((first, second) for first, second in merges))

    @cached_property
    def ids(self) -> dict[str, int]:
        """By piece."""
        letters = list(_name_bytes().values())
        pieces = [*letters, *(letter + END_OF_WORD for letter in letters)]
        pieces += ["".join(pair) for pair in self.merges]
        return {piece: number for number, piece in enumerate(pieces)}

    @cached_property
    def ranks(self) -> dict[tuple[str, str], int]:
        """By pair; the lower, the earlier it is merged."""
        return {pair: rank for rank, pair in enumerate(self.merges)}

    def encode(self, sentence: str) -> list[int]:
        """The ids between the sentence's start and its end."""
        names = _name_bytes()
        found = []
        for piece in PIECES.findall(" ".join(sentence.lower().split())):
            letters = [names[byte] for byte in piece.encode("utf-8")]
            letters[-1] += END_OF_WORD
            found += [self.ids[part] for part in self._merge(letters)]
        return found

    def _merge(self, parts: list[str]) -> list[str]:
        """The pair that comes first in the vocabulary is merged everywhere, until none is left."""
        while len(parts) > 1:
            pairs = set(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            merged: list[str] = []
            for part in parts:
                if merged and (merged[-1], part) == best:
                    merged[-1] += part
                else:
                    merged.append(part)
            parts = merged
        return parts


def list_word_ids(ids: Sequence[int]) -> NDArray[np.int64]:
    """A row [77] as the text tower takes it, padded with zeros."""
    row = np.zeros(CONTEXT, np.int64)
    row[: len(ids)] = ids
    return row


def _name_bytes() -> dict[int, str]:
    """A printable letter for each byte: itself, or the next beyond all bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {b: chr(256 + n) for n, b in enumerate(rest)}
