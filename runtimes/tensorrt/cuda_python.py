"""The device through cuda-python: CUDA's driver interface, in the primary context.

The driver interface alone: the runtime interface of the same package carries a CUDA runtime of its
own, and refuses every driver older than that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import DeviceError, MissingDependency, RuntimeUnavailable
from relo_edge.runtimes.tensorrt.device import Graphs, explain_failure

__all__ = ["CudaPython"]

FIRST = 0


class CudaPython:
    """NVIDIA's own binding; it imports without a driver and captures graphs."""

    package = "cuda-python"

    def __init__(self) -> None:
        try:
            from cuda.bindings import driver
        except ImportError as error:
            raise MissingDependency("cuda-python does not import", found=error) from None
        self._cuda: Any = driver
        self.graphs: Graphs | None = CudaGraphs(self._call, driver)
        try:
            code, *_ = driver.cuInit(0)
        except Exception as error:  # without libcuda: a class that only some versions have
            raise RuntimeUnavailable("cuda-python finds no NVIDIA driver", found=error) from None
        if int(code):
            raise RuntimeUnavailable("cuda-python cannot start CUDA", found=code.name)
        if not self._call("cuDeviceGetCount"):
            raise RuntimeUnavailable("cuda-python finds no GPU", fix="see `relo-edge doctor`")
        first = self._call("cuDeviceGet", FIRST)
        self._context = self._call("cuDevicePrimaryCtxRetain", first)

    @contextmanager
    def activate(self) -> Iterator[None]:
        """The driver keeps a stack of contexts for each thread."""
        self._call("cuCtxPushCurrent", self._context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent")

    def allocate(self, size: int) -> int:
        """Device memory."""
        return int(self._call("cuMemAlloc", size))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cuMemFree", address)

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that does not move."""
        address = int(self._call("cuMemHostAlloc", size, 0))
        array: NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size).from_address(address)
        )
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Give it back."""
        self._call("cuMemFreeHost", array.ctypes.data)

    def clear(self, address: int, size: int, stream: int) -> None:
        """Zeros."""
        self._call("cuMemsetD8Async", address, 0, size, stream)

    def send(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device."""
        self._call("cuMemcpyHtoDAsync", address, array.ctypes.data, array.nbytes, stream)

    def fetch(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host."""
        self._call("cuMemcpyDtoHAsync", array.ctypes.data, address, array.nbytes, stream)

    def move(self, target: int, source: int, size: int, stream: int) -> None:
        """Device to device."""
        self._call("cuMemcpyDtoDAsync", target, source, size, stream)

    def create_stream(self) -> int:
        """Without the wait for the default stream that others may use."""
        kind = self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING
        return int(self._call("cuStreamCreate", int(kind)))

    def destroy_stream(self, stream: int) -> None:
        """Give the stream back."""
        self._call("cuStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait for the stream."""
        self._call("cuStreamSynchronize", stream)

    def time_call(self, call: Callable[[], None], stream: int) -> float:
        """Between two events in the stream."""
        start, stop = (self._call("cuEventCreate", 0) for _ in range(2))
        try:
            self._call("cuEventRecord", start, stream)
            call()
            self._call("cuEventRecord", stop, stream)
            self._call("cuEventSynchronize", stop)
            return float(self._call("cuEventElapsedTime", start, stop))
        finally:
            self._call("cuEventDestroy", start)
            self._call("cuEventDestroy", stop)

    def _call(self, name: str, *arguments: Any) -> Any:
        """The call's result; its error code, or that the driver lacks it, becomes an exception."""
        try:
            code, *results = getattr(self._cuda, name)(*arguments)
        except RuntimeError:
            raise DeviceError(f"the NVIDIA driver has no {name}", fix="update it") from None
        if int(code):
            raise explain_failure(name, code.name)
        return results[0] if results else None


class CudaGraphs:
    """Stream capture."""

    def __init__(self, call: Callable[..., Any], cuda: Any) -> None:
        self._call, self._cuda = call, cuda

    def begin(self, stream: int) -> None:
        """By thread: what other threads do meanwhile must not break the capture."""
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)

    def end(self, stream: int) -> Any:
        """The graph, instantiated."""
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def launch(self, graph: Any, stream: int) -> None:
        """One call for all of it."""
        self._call("cuGraphLaunch", graph, stream)

    def destroy(self, graph: Any) -> None:
        """Give the graph back."""
        self._call("cuGraphExecDestroy", graph)
