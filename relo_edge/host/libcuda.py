"""The CUDA driver asked through ctypes: it is there when a GPU is, and needs no package."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

__all__ = ["list_devices", "name_cuda_wheel"]

# CUdevice_attribute
_SM_COUNT, _CAPABILITY_MAJOR, _CAPABILITY_MINOR = 16, 75, 76


def list_devices() -> dict[str, Any]:
    """The newest CUDA the driver serves, and what is known of each GPU."""
    cuda = ctypes.CDLL("libcuda.so.1")
    version, count = ctypes.c_int(), ctypes.c_int()
    check_call(cuda, "cuInit", 0)
    check_call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    check_call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    return {
        "cuda": [version.value // 1000, version.value % 1000 // 10],
        "devices": [describe_device(cuda, index) for index in range(count.value)],
    }


def name_cuda_wheel(cuda: Sequence[int]) -> str:
    """The requirement for a cuda-python that this driver serves: bindings of its own CUDA."""
    major = cuda[0]
    oldest = "12.6" if major == 12 else f"{major}.0"
    return f"cuda-bindings>={oldest},<{major + 1}"


def describe_device(cuda: ctypes.CDLL, index: int) -> dict[str, Any]:
    """One GPU; no context is made on it, so it costs no GPU memory."""
    device, name, memory = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    check_call(cuda, "cuDeviceGet", ctypes.byref(device), index)
    check_call(cuda, "cuDeviceGetName", name, len(name), device)
    check_call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    numbers = []
    for attribute in (_SM_COUNT, _CAPABILITY_MAJOR, _CAPABILITY_MINOR):
        number = ctypes.c_int()
        check_call(cuda, "cuDeviceGetAttribute", ctypes.byref(number), attribute, device)
        numbers.append(number.value)
    return {
        "name": name.value.decode(errors="replace"),
        "capability": numbers[1:],
        "sm_count": numbers[0],
        "memory": memory.value,
    }


def check_call(cuda: ctypes.CDLL, function: str, *arguments: Any) -> None:
    """Call the driver; an error code becomes its name, such as CUDA_ERROR_NO_DEVICE."""
    code = getattr(cuda, function)(*arguments)
    if code:
        name = ctypes.c_char_p()
        cuda.cuGetErrorName(code, ctypes.byref(name))
        known = name.value.decode() if name.value else f"error {code}"
        raise OSError(f"{function}: {known}")
