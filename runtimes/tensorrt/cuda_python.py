"""The device through cuda-python, NVIDIA's own binding; imports without a driver."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import MissingDependency
from relo_edge.runtimes.tensorrt.device import Graphs, explain_driver, explain_failure

__all__ = ["CudaPython"]

FIRST = 0


class CudaPython:
    """CUDA's runtime interface, which always works in the primary context."""

    package = "cuda-python"

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise MissingDependency("cuda-python does not import", found=error) from None
        self._cuda: Any = runtime
        self.graphs: Graphs | None = CudaGraphs(self._call, runtime)
        code, count = runtime.cudaGetDeviceCount()
        if int(code) or not count:
            driver = self._call("cudaDriverGetVersion")
            # Within a major version, an older driver serves newer libraries.
            needed = self._call("cudaRuntimeGetVersion") // 1000 * 1000
            raise explain_driver(driver, needed)
        self.gpu = str(self._call("cudaGetDeviceProperties", FIRST).name.decode())
        kinds = runtime.cudaDeviceAttr
        self.capability = (
            self._read_attribute(kinds.cudaDevAttrComputeCapabilityMajor),
            self._read_attribute(kinds.cudaDevAttrComputeCapabilityMinor),
        )

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Another CUDA user may have chosen another GPU in this thread."""
        before = self._call("cudaGetDevice")
        if before != FIRST:
            self._call("cudaSetDevice", FIRST)
        try:
            yield
        finally:
            if before != FIRST:
                self._call("cudaSetDevice", before)

    def allocate(self, size: int) -> int:
        """Device memory."""
        return int(self._call("cudaMalloc", size))

    def free(self, address: int) -> None:
        """Give device memory back."""
        self._call("cudaFree", address)

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that does not move."""
        address = int(self._call("cudaMallocHost", size))
        array: NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size).from_address(address)
        )
        return array

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Give it back."""
        self._call("cudaFreeHost", array.ctypes.data)

    def clear(self, address: int, size: int, stream: int) -> None:
        """Zeros."""
        self._call("cudaMemsetAsync", address, 0, size, stream)

    def send(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device."""
        self._copy(address, array.ctypes.data, array.nbytes, "HostToDevice", stream)

    def fetch(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host."""
        self._copy(array.ctypes.data, address, array.nbytes, "DeviceToHost", stream)

    def move(self, target: int, source: int, size: int, stream: int) -> None:
        """Device to device."""
        self._copy(target, source, size, "DeviceToDevice", stream)

    def create_stream(self) -> int:
        """Without the wait for the default stream that others may use."""
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking))

    def destroy_stream(self, stream: int) -> None:
        """Give the stream back."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait for the stream."""
        self._call("cudaStreamSynchronize", stream)

    def time_call(self, call: Callable[[], None], stream: int) -> float:
        """Between two events in the stream."""
        start, stop = (self._call("cudaEventCreate") for _ in range(2))
        try:
            self._call("cudaEventRecord", start, stream)
            call()
            self._call("cudaEventRecord", stop, stream)
            self._call("cudaEventSynchronize", stop)
            return float(self._call("cudaEventElapsedTime", start, stop))
        finally:
            self._call("cudaEventDestroy", start)
            self._call("cudaEventDestroy", stop)

    def _copy(self, target: int, source: int, size: int, kind: str, stream: int) -> None:
        direction = getattr(self._cuda.cudaMemcpyKind, f"cudaMemcpy{kind}")
        self._call("cudaMemcpyAsync", target, source, size, direction, stream)

    def _read_attribute(self, attribute: Any) -> int:
        return int(self._call("cudaDeviceGetAttribute", attribute, FIRST))

    def _call(self, name: str, *arguments: Any) -> Any:
        """The call's result; its error code becomes an exception."""
        code, *results = getattr(self._cuda, name)(*arguments)
        if int(code):
            raise explain_failure(name, code.name)
        return results[0] if results else None


class CudaGraphs:
    """Stream capture."""

    def __init__(self, call: Callable[..., Any], cuda: Any) -> None:
        self._call, self._cuda = call, cuda

    def begin(self, stream: int) -> None:
        """By thread: what other threads do meanwhile must not break the capture."""
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode)

    def end(self, stream: int) -> Any:
        """The graph, instantiated."""
        graph = self._call("cudaStreamEndCapture", stream)
        try:
            return self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: Any, stream: int) -> None:
        """One call for all of it."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy(self, graph: Any) -> None:
        """Give the graph back."""
        self._call("cudaGraphExecDestroy", graph)
