"""A runtime that writes down everything its graphs are fed while a tracker uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.calibration.samples import Feeds, SampleWriter
from relo_edge.graphs.sessions import open_session
from relo_edge.runtime import ClosedOnExit, Runtime, StepResult

__all__ = ["Encoder", "RecordingRuntime", "open_encoder"]

Array = NDArray[np.float32]

Encoder = Callable[[Feeds], Array]
"""The template graph: what it is fed → its tokens."""


class RecordingRuntime(ClosedOnExit):
    """Answers as the runtime below it; one target, one run."""

    batch = 1

    def __init__(self, runtime: Runtime, encode: Encoder, writer: SampleWriter) -> None:
        self.name = f"recording {runtime.name}"
        self.precision = runtime.precision
        self.device = runtime.device
        self.variant = runtime.variant
        self._runtime = runtime
        self._encode = encode
        self._writer = writer
        shape = (1, self.variant.template_tokens, self.variant.width)
        self._tokens = np.zeros(shape, np.float32)
        self._has_history = self._had_history = False

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: Array
    ) -> None:
        """Encode a second time, because a runtime keeps its tokens to itself."""
        feeds: Feeds = {"template": template[None], "box": box[None]}
        self._writer.write_sample("template", feeds)
        rows = self.variant.tokens_per_template
        self._tokens[:, index * rows : (index + 1) * rows] = self._encode(feeds)
        self._runtime.encode_template(slot, index, template, box)

    def forget(self, slot: int) -> None:
        """The next step is a first frame."""
        self._has_history = False
        self._runtime.forget(slot)

    def rewind(self, slot: int) -> None:
        """The last step was none; its sample stays, as it was fed."""
        self._runtime.rewind(slot)
        self._has_history = self._had_history

    def step(self, slots: Sequence[int], searches: NDArray[np.uint8], window: Array) -> StepResult:
        """Note what goes in, above all the state that the steps before left behind."""
        feeds: Feeds = {
            "search": searches,
            "template_tokens": self._tokens,
            "temporal_tokens": self._read_history(slots[0])[None],
            "has_history": np.array([self._has_history], np.float32),
            "window": window,
        }
        self._writer.write_sample("step", feeds)
        self._had_history, self._has_history = self._has_history, True
        return self._runtime.step(slots, searches, window)

    def read_state(self, slot: int) -> Array:
        """The runtime's."""
        return self._runtime.read_state(slot)

    def close(self) -> None:
        """The runtime belongs to whoever opened it."""

    def _read_history(self, slot: int) -> Array:
        """Zeros before the first step: what another run left there is none of this one's."""
        if self._has_history:
            return self._runtime.read_state(slot)
        return np.zeros(self.variant.state_shape, np.float32)


def open_encoder(bundle: Bundle) -> Encoder:
    """The bundle's float32 template graph."""
    session = open_session(bundle.graph("template", "fp32"))

    def encode(feeds: Feeds) -> Array:
        tokens: Array = session.run(["template_tokens"], feeds)[0]
        return tokens

    return encode
