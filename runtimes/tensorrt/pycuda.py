"""The device through pycuda, which captures no graphs; `import` of its driver needs libcuda."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import MissingDependency, RuntimeUnavailable
from relo_edge.runtimes.tensorrt.device import Graphs, explain_failure

__all__ = ["PyCuda"]


class PyCuda:
    """CUDA's driver interface in the primary context; never pycuda.autoinit, which makes its own
    context and so hides the memory of every other CUDA user in the process.
    """

    package = "pycuda"
    graphs: Graphs | None = None

    def __init__(self) -> None:
        try:
            from pycuda import driver
        except ImportError as error:
            raise MissingDependency("pycuda does not import", found=error) from None
        self._cuda: Any = driver
        try:
            driver.init()
            count = driver.Device.count()
        except driver.Error as error:
            raise RuntimeUnavailable("pycuda cannot start CUDA", found=error) from None
        if not count:
            raise RuntimeUnavailable("pycuda finds no GPU", fix="see `relo-edge doctor`")
        self._primary = self._call(driver.Device(0).retain_primary_context)
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}

    @contextmanager
    def activate(self) -> Iterator[None]:
        """pycuda keeps a stack of contexts for each thread."""
        self._primary.push()
        try:
            yield
        finally:
            self._primary.pop()

    def allocate(self, size: int) -> int:
        """Device memory; pycuda gives back what nobody holds, so it is held here."""
        allocation = self._call(self._cuda.mem_alloc, size)
        self._memory[int(allocation)] = allocation
        return int(allocation)

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call(self._memory.pop(address).free)

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that does not move."""
        array: NDArray[np.uint8] = self._call(self._cuda.pagelocked_empty, size, np.uint8)
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Give it back."""
        self._call(array.base.free)  # type: ignore[union-attr]

    def clear(self, address: int, size: int, stream: int) -> None:
        """Zeros."""
        self._call(self._cuda.memset_d8_async, address, 0, size, self._streams[stream])

    def send(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device."""
        self._call(self._cuda.memcpy_htod_async, address, array, self._streams[stream])

    def fetch(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host."""
        self._call(self._cuda.memcpy_dtoh_async, array, address, self._streams[stream])

    def move(self, target: int, source: int, size: int, stream: int) -> None:
        """Device to device."""
        self._call(self._cuda.memcpy_dtod_async, target, source, size, self._streams[stream])

    def create_stream(self) -> int:
        """pycuda's flag 1: without the wait for the default stream that others may use."""
        stream = self._call(self._cuda.Stream, 1)
        self._streams[int(stream.handle)] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        """pycuda destroys what nobody holds."""
        del self._streams[stream]

    def synchronize(self, stream: int) -> None:
        """Wait for the stream."""
        self._call(self._streams[stream].synchronize)

    def time_call(self, call: Callable[[], None], stream: int) -> float:
        """Between two events in the stream."""
        start, stop = self._cuda.Event(), self._cuda.Event()
        start.record(self._streams[stream])
        call()
        stop.record(self._streams[stream])
        stop.synchronize()
        return float(stop.time_since(start))

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except self._cuda.Error as error:
            raise explain_failure(getattr(function, "__name__", "call"), str(error)) from None
