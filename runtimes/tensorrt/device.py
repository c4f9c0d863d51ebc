"""All that the runtime asks of CUDA; two packages can do it, and a recording device in the tests.

Addresses and streams are plain integers, as TensorRT takes them. Every call but `activate` must be
made inside it. What a call cannot do raises DeviceError with CUDA's own name for the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from relo_edge.errors import DeviceError, MissingDependency, RuntimeUnavailable
from relo_edge.host.libcuda import list_devices, name_cuda_wheel

__all__ = ["Device", "Graphs", "explain_failure", "open_device"]

OUT_OF_MEMORY = ("OUT_OF_MEMORY", "out of memory")


class Graphs(Protocol):
    """CUDA graphs: a stream's work written down once, then launched by one call."""

    def begin(self, stream: int) -> None:
        """From here on the stream's work is written down, not done."""

    def end(self, stream: int) -> Any:
        """What was written down, ready to be launched."""

    def launch(self, graph: Any, stream: int) -> None:
        """Do all of it."""

    def destroy(self, graph: Any) -> None:
        """Give the graph back."""


class Device(Protocol):
    """The first GPU, in its primary context, which torch and others in the process share."""

    package: str
    graphs: Graphs | None
    """How CUDA graphs are captured, where they can be."""

    def activate(self) -> AbstractContextManager[None]:
        """Make the GPU this thread's for a block, and leave the thread as it was."""

    def allocate(self, size: int) -> int:
        """Device memory, aligned to 256 bytes."""

    def free(self, address: int) -> None:
        """Give device memory back."""

    def allocate_pinned(self, size: int) -> NDArray[np.uint8]:
        """Host memory that the GPU reads and writes by itself."""

    def free_pinned(self, array: NDArray[np.uint8]) -> None:
        """Give it back; no view of it may be used any more."""

    def clear(self, address: int, size: int, stream: int) -> None:
        """Zeros, in the stream's order."""

    def send(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Host to device; the array must live until the stream has come that far."""

    def fetch(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Device to host; the array is filled once the stream has come that far."""

    def move(self, target: int, source: int, size: int, stream: int) -> None:
        """Device to device."""

    def create_stream(self) -> int:
        """A stream that waits for no other."""

    def destroy_stream(self, stream: int) -> None:
        """Give the stream back."""

    def synchronize(self, stream: int) -> None:
        """Wait until all that the stream was given is done, and learn what failed."""

    def time_call(self, call: Callable[[], None], stream: int) -> float:
        """The milliseconds that the GPU spends on what the call puts into the stream."""


def open_device() -> Device:
    """cuda-python, because it captures graphs; pycuda where that one does not open the GPU.

    Raises:
        MissingDependency: neither is installed.
        RuntimeUnavailable: what is installed does not open the GPU.
    """
    from relo_edge.runtimes.tensorrt.cuda_python import CudaPython
    from relo_edge.runtimes.tensorrt.pycuda import PyCuda

    reasons, installed = [], False
    for kind in (CudaPython, PyCuda):
        try:
            return kind()
        except (MissingDependency, RuntimeUnavailable, DeviceError) as error:
            reasons.append(str(error))
            installed |= not isinstance(error, MissingDependency)
    kind_of_error = RuntimeUnavailable if installed else MissingDependency
    what = f"no CUDA binding opens the GPU: {'; '.join(reasons)}"
    raise kind_of_error(what, fix=_advise())


def _advise() -> str:
    """The wheel for the driver that is here."""
    try:
        wheel = name_cuda_wheel(list_devices()["cuda"])
    except OSError:
        return "see `relo-edge doctor`"
    return f"`pip install '{wheel}'`"


def explain_failure(call: str, reason: str) -> DeviceError:
    """An error that says what to do where something can be done."""
    full = any(word in reason for word in OUT_OF_MEMORY)
    fix = "close what else uses the GPU, or open a smaller batch" if full else None
    return DeviceError(f"CUDA's {call} failed", found=reason, fix=fix)
