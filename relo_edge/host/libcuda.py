"""The CUDA driver asked through ctypes: it is there when a GPU is, and needs no package."""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["list_devices"]

_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76  # CUdevice_attribute


def list_devices() -> dict[str, Any]:
    """The newest CUDA the driver serves, and each GPU's name, compute capability and memory."""
    cuda = ctypes.CDLL("libcuda.so.1")
    version, count = ctypes.c_int(), ctypes.c_int()
    check_call(cuda, "cuInit", 0)
    check_call(cuda, "cuDriverGetVersion", ctypes.byref(version))
    check_call(cuda, "cuDeviceGetCount", ctypes.byref(count))
    return {
        "cuda": [version.value // 1000, version.value % 1000 // 10],
        "devices": [describe_device(cuda, index) for index in range(count.value)],
    }


def describe_device(cuda: ctypes.CDLL, index: int) -> dict[str, Any]:
    """One GPU; no context is made on it, so it costs no GPU memory."""
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()
    check_call(cuda, "cuDeviceGet", ctypes.byref(device), index)
    check_call(cuda, "cuDeviceGetName", name, len(name), device)
    check_call(cuda, "cuDeviceGetAttribute", ctypes.byref(major), _CAPABILITY_MAJOR, device)
    check_call(cuda, "cuDeviceGetAttribute", ctypes.byref(minor), _CAPABILITY_MINOR, device)
    check_call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return {
        "name": name.value.decode(errors="replace"),
        "capability": [major.value, minor.value],
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
