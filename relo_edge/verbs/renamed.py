"""Options that were renamed: the old spelling works for one minor version, with a warning."""

from __future__ import annotations

import logging
from collections.abc import Sequence

__all__ = ["RENAMED", "replace_renamed"]

RENAMED = {
    "eval": {"--dataset": "--protocol"},
    "serve": {"--dataset": "--protocol"},
    "track": {"--dataset": "--protocol"},
    "train": {"--clips": "--batch-clips", "--start": "--from"},
}
"""By verb; to be removed in 0.3."""

log = logging.getLogger("relo_edge")


def replace_renamed(words: Sequence[str]) -> list[str]:
    """The command line with today's spellings; each old one is named in one warning line."""
    verb = next((word for word in words if not word.startswith("-")), "")
    names = RENAMED.get(verb, {})
    return [_replace_word(word, names) for word in words]


def _replace_word(word: str, names: dict[str, str]) -> str:
    name, equals, value = word.partition("=")
    if name not in names:
        return word
    log.warning("%s is now called %s; the old name will be removed in 0.3", name, names[name])
    return f"{names[name]}{equals}{value}"
