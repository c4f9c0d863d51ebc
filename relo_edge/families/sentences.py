"""A target in words: by a bundle's words graph, a sentence becomes tensors of the target."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.errors import InputError
from relo_edge.families.words import CONTEXT, VOCABULARY, WORDS, Vocabulary, list_word_ids
from relo_edge.graphs.sessions import open_session

__all__ = ["encode_sentence"]


def encode_sentence(bundle: Bundle, sentence: str) -> dict[str, NDArray[np.float32]]:
    """The target tensors that a sentence makes, by name, without the batch.

    Args:
        bundle: one that was exported with its words.
        sentence: what the target is, such as "the red car".

    Returns:
        What `MultiTracker` takes as `told`.

    Raises:
        InputError: the bundle takes no words, or the sentence is empty or too long.
    """
    if WORDS not in bundle.manifest["graphs"]["fp32"]:
        fix = "export a checkpoint of SUTrack with `--words`"
        raise InputError(f"{bundle.path} takes no words", fix=fix)
    vocabulary = Vocabulary.read(bundle.check_file(VOCABULARY))
    start = len(vocabulary.ids)
    inner = vocabulary.encode(sentence)
    if not 0 < len(inner) <= CONTEXT - 2:
        found, expected = f"{len(inner)} tokens", f"1 to {CONTEXT - 2}"
        raise InputError("sentence", found=found, expected=expected)
    row = list_word_ids([start, *inner, start + 1])
    session = open_session(bundle.graph(WORDS))
    names = [value.name for value in session.get_outputs()]
    made = session.run(names, {session.get_inputs()[0].name: row[None]})
    return {name: values[0] for name, values in zip(names, made, strict=True)}
