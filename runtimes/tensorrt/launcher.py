"""The step's engines in both directions at every batch: contexts, and the graphs captured of them.

All is made when the runtime opens: a track must not stop for a context or a capture.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from relo_edge.errors import DeviceError
from relo_edge.runtimes.tensorrt.buffers import Mirror
from relo_edge.runtimes.tensorrt.device import Device
from relo_edge.runtimes.tensorrt.engine import Context, Engine
from relo_edge.runtimes.tensorrt.library import Library

__all__ = ["StepLauncher"]

log = logging.getLogger("relo_edge")

Key = tuple[int, int]
"""Direction (which state buffer is read) and batch."""


class StepLauncher:
    """Runs one step at the smallest batch that holds the rows asked for."""

    def __init__(
        self,
        library: Library,
        device: Device,
        stream: int,
        engines: Mapping[int, Engine],
        sent: Mirror,
        fetched: Mirror,
    ) -> None:
        self._library, self._device, self._stream = library, device, stream
        self._engines = dict(engines)
        self._sent, self._fetched = sent, fetched
        self._contexts: dict[Key, Context] = {}
        self._graphs: dict[Key, Any] = {}
        self.description = _describe(library, device)

    def open(self, bind: Callable[[int], Mapping[str, int]], scratch: int) -> None:
        """Make the contexts, run each once, and capture it where CUDA graphs are to be had.

        Args:
            bind: the tensors' addresses in a direction.
            scratch: memory for all contexts, as they run one after another.
        """
        for batch, loaded in self._engines.items():
            for turn in range(2):
                self._contexts[turn, batch] = loaded.create_context(
                    batch, bind(turn), scratch, self._stream
                )
                self._enqueue((turn, batch))
        self._device.synchronize(self._stream)
        if self._device.graphs is not None and not self._library.captures_itself:
            self._capture_all()

    def launch(self, turn: int, rows: int) -> None:
        """Put a step of rows 0 to `rows` - 1 into the stream."""
        key = turn, min(batch for batch in self._engines if batch >= rows)
        if self._device.graphs is not None and key in self._graphs:
            self._device.graphs.launch(self._graphs[key], self._stream)
        else:
            self._enqueue(key)

    @property
    def largest(self) -> Engine:
        """The engine for the most targets."""
        return self._engines[max(self._engines)]

    def close(self) -> None:
        """Graphs before the contexts they were captured of, contexts before their engines."""
        self._drop_graphs()
        self._contexts.clear()
        self._engines.clear()

    def _enqueue(self, key: Key) -> None:
        """Crops in, network, boxes out."""
        self._sent.send(self._stream, key[1])
        self._contexts[key].enqueue(self._stream)
        self._fetched.fetch(self._stream)

    def _capture_all(self) -> None:
        """Every step as a graph, or none: where one fails, go on without and say so."""
        for key in self._contexts:
            try:
                self._graphs[key] = self._capture(key)
            except DeviceError as error:
                self._drop_graphs()
                self.description = f"kernel by kernel: {error}"
                log.warning("%s goes on without CUDA graphs: %s", self._library.flavour, error)
                self._settle(key)
                return

    def _capture(self, key: Key) -> Any:
        graphs = self._device.graphs
        assert graphs is not None
        graphs.begin(self._stream)
        try:
            self._enqueue(key)
        except DeviceError:
            with suppress(DeviceError):  # what the capture ends with says less than its cause
                graphs.destroy(graphs.end(self._stream))
            raise
        return graphs.end(self._stream)

    def _drop_graphs(self) -> None:
        while self._graphs and self._device.graphs is not None:
            _, graph = self._graphs.popitem()
            with suppress(DeviceError):
                self._device.graphs.destroy(graph)

    def _settle(self, key: Key) -> None:
        """After a failed capture CUDA reports its error once more, to whoever calls next."""
        try:
            self._enqueue(key)
            self._device.synchronize(self._stream)
        except DeviceError as error:
            log.info("left behind by the capture: %s", error)
            self._enqueue(key)
            self._device.synchronize(self._stream)


def _describe(library: Library, device: Device) -> str:
    if library.captures_itself:
        return "CUDA graphs captured by TensorRT for RTX itself"
    if device.graphs is None:
        return f"kernel by kernel: {device.package} captures no CUDA graphs"
    return "captured CUDA graphs"
