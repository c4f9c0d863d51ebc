"""A runtime that writes down everything its graphs are fed while a tracker uses it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.calibration.samples import Feeds, SampleWriter
from relo_edge.graphs.sessions import open_session
from relo_edge.runtime import ClosedOnExit, Runtime, StepResult

__all__ = ["EncodeTemplate", "RecordingRuntime", "open_encoder"]

Array = NDArray[np.float32]

EncodeTemplate = Callable[[Feeds], Array]
"""The template graph as a function from feeds to tokens."""


class RecordingRuntime(ClosedOnExit):
    """Records what another runtime is fed, and returns its results. One target, one run."""

    batch = 1

    def __init__(self, runtime: Runtime, encode: EncodeTemplate, writer: SampleWriter) -> None:
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
        """Record and encode the template here too: a runtime does not give its tokens out."""
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
        """Undo the last step; its sample stays in the recording."""
        self._runtime.rewind(slot)
        self._has_history = self._had_history

    def step(self, slots: Sequence[int], searches: NDArray[np.uint8], window: Array) -> StepResult:
        """Record the feeds, including the state that the last step left."""
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
        """Nothing to do: the recorded runtime belongs to the caller."""

    def _read_history(self, slot: int) -> Array:
        """The state to record: zeros before the first step, whatever another run left there."""
        if self._has_history:
            return self._runtime.read_state(slot)
        return np.zeros(self.variant.state_shape, np.float32)


def open_encoder(bundle: Bundle) -> EncodeTemplate:
    """The bundle's float32 template graph."""
    session = open_session(bundle.graph("template", "fp32"))

    def encode(feeds: Feeds) -> Array:
        tokens: Array = session.run(["template_tokens"], feeds)[0]
        return tokens

    return encode
