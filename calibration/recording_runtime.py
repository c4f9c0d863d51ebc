"""A runtime that writes down everything its graphs are fed while a tracker uses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from relo_edge.bundle import Bundle
from relo_edge.calibration.samples import Feeds, SampleWriter
from relo_edge.contract import STEP, TEMPLATE, describe_graph, list_graphs
from relo_edge.graphs.sessions import open_session
from relo_edge.runtime import ClosedOnExit, Runtime, StepResult

__all__ = ["EncodeTemplate", "RecordingRuntime", "open_encoder"]

Array = NDArray[np.float32]

EncodeTemplate = Callable[[Feeds], Mapping[str, Array]]
"""The template graph as a function from feeds to parts of target tensors, by name."""


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
        self._contract = describe_graph(self.variant, STEP)
        self._targets = {
            s.name: np.zeros(s.at_batch(1), s.dtype) for s in self._contract.list_inputs("target")
        }
        self._has_history = self._had_history = False

    def encode_template(
        self, slot: int, index: int, template: NDArray[np.uint8], box: Array
    ) -> None:
        """Record and encode the template here too: a runtime does not give its tokens out."""
        contract = describe_graph(self.variant, TEMPLATE)
        (given,) = contract.list_inputs("given")
        feeds: Feeds = {contract.pixels.name: template[None], given.name: box[None]}
        self._writer.write_sample(TEMPLATE, feeds)
        for name, part in self._encode(feeds).items():
            rows = part.shape[1]
            self._targets[name][:, index * rows : (index + 1) * rows] = part
        self._runtime.encode_template(slot, index, template, box)

    def set_target(self, slot: int, name: str, values: Array) -> None:
        """Keep the tensor here too."""
        self._targets[name][0] = values
        self._runtime.set_target(slot, name, values)

    def forget(self, slot: int) -> None:
        """The next step is a first frame."""
        self._has_history = False
        self._runtime.forget(slot)

    def rewind(self, slot: int) -> None:
        """Undo the last step; its sample stays in the recording."""
        self._runtime.rewind(slot)
        self._has_history = self._had_history

    def step(
        self, slots: Sequence[int], pixels: NDArray[np.uint8], shared: Array | None
    ) -> StepResult:
        """Record the feeds, including the state that the last step left."""
        contract = self._contract
        feeds: Feeds = {contract.pixels.name: pixels, **self._targets}
        feeds |= self._read_history(slots[0])
        fresh = np.array([self._has_history], np.float32)
        feeds |= {spec.name: fresh for spec in contract.list_inputs("fresh")}
        if shared is not None:
            feeds |= {spec.name: shared for spec in contract.list_inputs("shared")}
        self._writer.write_sample(STEP, feeds)
        self._had_history, self._has_history = self._has_history, True
        return self._runtime.step(slots, pixels, shared)

    def read_state(self, slot: int) -> dict[str, Array]:
        """The runtime's."""
        return self._runtime.read_state(slot)

    def close(self) -> None:
        """Nothing to do: the recorded runtime belongs to the caller."""

    def _read_history(self, slot: int) -> Feeds:
        """The state to record: zeros before the first step, whatever another run left there."""
        if self._has_history:
            return {name: state[None] for name, state in self._runtime.read_state(slot).items()}
        befores = [state.before for state in self._contract.states]
        return {spec.name: np.zeros(spec.at_batch(1), np.float32) for spec in befores}


def open_encoder(bundle: Bundle) -> EncodeTemplate:
    """The bundle's float32 template graph; none is asked for where there are no templates."""
    if TEMPLATE not in list_graphs(bundle.variant):
        return lambda _: {}
    session = open_session(bundle.graph(TEMPLATE, "fp32"))
    names = [spec.name for spec in describe_graph(bundle.variant, TEMPLATE).outputs]

    def encode(feeds: Feeds) -> Mapping[str, Array]:
        return dict(zip(names, session.run(names, feeds), strict=True))

    return encode
