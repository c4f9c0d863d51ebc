"""What runs in a child process: try one thing for real, and answer in one line of JSON."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from relo_edge.host.telemetry import import_silenced

__all__ = ["PROBES", "answer_parent"]

# One Identity node (x -> y, one float, opset 13) as ONNX: enough for a provider to really start.
_IDENTITY = (
    b'\x08\x07:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def load_package(name: str) -> ModuleType:
    """Import a package; the bare folder that an uninstall leaves imports too, and is refused."""
    module: ModuleType = import_silenced(name)
    if getattr(module, "__file__", None) is None:
        raise ImportError(f"{name} is a folder without its code, as an uninstall can leave it")
    return module


def probe_opencv() -> dict[str, Any]:
    """OpenCV's version, place and build; its own loader tells what is wrong with it."""
    from relo_edge.host.opencv import cv2

    return {
        "version": cv2.__version__,
        "file": cv2.__file__,
        "build": cv2.getBuildInformation(),
    }


def probe_pytorch() -> dict[str, Any]:
    """PyTorch, and whether this build of it reaches the GPU."""
    torch = load_package("torch")
    return {"version": torch.__version__, "cuda": torch.cuda.is_available()}


def probe_provider(provider: str, **options: str) -> dict[str, Any]:
    """Open a session: a provider that is only listed may still fall back to the CPU."""
    onnxruntime = load_package("onnxruntime")
    facts = {"version": onnxruntime.__version__, "listed": False, "opened": False}
    if provider in onnxruntime.get_available_providers():
        if provider != "CPUExecutionProvider" and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()
        session = onnxruntime.InferenceSession(_IDENTITY, providers=[(provider, options)])
        facts.update(listed=True, opened=provider in session.get_providers())
    return facts


def probe_onnxruntime() -> dict[str, Any]:
    """onnxruntime on the CPU."""
    return probe_provider("CPUExecutionProvider")


def probe_onnxruntime_cuda() -> dict[str, Any]:
    """onnxruntime's CUDA provider."""
    return probe_provider("CUDAExecutionProvider")


def probe_onnxruntime_tensorrt() -> dict[str, Any]:
    """onnxruntime's TensorRT provider, without the seconds that an engine takes."""
    return probe_provider("TensorrtExecutionProvider", trt_min_subgraph_size="1000")


def probe_openvino() -> dict[str, Any]:
    """OpenVINO, and the devices for which it has a working plugin."""
    openvino = load_package("openvino")
    release = openvino.__version__.partition("-")[0]
    return {"version": release, "devices": list(openvino.Core().available_devices)}


def probe_tensorrt() -> dict[str, Any]:
    """TensorRT."""
    return start_tensorrt(load_package("tensorrt"))


def probe_tensorrt_rtx() -> dict[str, Any]:
    """TensorRT for RTX, which has TensorRT's interface under its own name, or its wheels' name."""
    try:
        return start_tensorrt(load_package("tensorrt_rtx"))
    except ModuleNotFoundError as error:
        if error.name != "tensorrt_rtx" or not find_spec("tensorrt_rtx_bindings"):
            raise
        return start_tensorrt(load_package("tensorrt_rtx_bindings"))


def start_tensorrt(tensorrt: ModuleType) -> dict[str, Any]:
    """Its runtime object needs a driver that is new enough; its engines, a package for CUDA."""
    tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.ERROR))
    return {"version": tensorrt.__version__, "cuda": open_cuda()}


def open_cuda() -> str:
    """Why no CUDA binding opens the GPU; nothing where one does: importing proves too little."""
    problems = []
    for open_binding in (open_cuda_python, open_pycuda):
        try:
            open_binding()
        except Exception as error:  # the classes differ between versions
            problems.append(" ".join(str(error).split()) or type(error).__name__)
        else:
            return ""
    return "; ".join(problems)


def open_cuda_python() -> None:
    """A piece of the first GPU's memory through cuda-python's driver interface."""
    driver = importlib.import_module("cuda.bindings.driver")

    def call(name: str, *arguments: Any) -> Any:
        code, *results = getattr(driver, name)(*arguments)
        if int(code):
            raise OSError(f"cuda-python: {name}: {code.name}")
        return results[0] if results else None

    call("cuInit", 0)
    first = call("cuDeviceGet", 0)
    call("cuCtxPushCurrent", call("cuDevicePrimaryCtxRetain", first))
    call("cuMemFree", call("cuMemAlloc", 256))
    call("cuCtxPopCurrent")
    call("cuDevicePrimaryCtxRelease", first)


def open_pycuda() -> None:
    """The same through pycuda."""
    driver = importlib.import_module("pycuda.driver")
    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    try:
        driver.mem_alloc(256).free()
    finally:
        context.pop()


def probe_libcuda() -> dict[str, Any]:
    """The CUDA driver and its GPUs."""
    from relo_edge.host.libcuda import list_devices

    return list_devices()


PROBES: Mapping[str, Callable[[], dict[str, Any]]] = {
    "pytorch": probe_pytorch,
    "openvino": probe_openvino,
    "onnxruntime": probe_onnxruntime,
    "onnxruntime-cuda": probe_onnxruntime_cuda,
    "onnxruntime-tensorrt": probe_onnxruntime_tensorrt,
    "tensorrt": probe_tensorrt,
    "tensorrt_rtx": probe_tensorrt_rtx,
    "opencv": probe_opencv,
    "libcuda": probe_libcuda,
}

_PROBED_PACKAGES = ("torch", "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx")


def answer_parent(name: str) -> None:
    """Write the answer and leave at once: a library that crashes while unloading has answered."""
    try:
        answer: dict[str, Any] = {"facts": PROBES[name]()}
    except (Exception, SystemExit) as error:
        answer = {
            "failure": " ".join(str(error).split()) or type(error).__name__,
            "absent": getattr(error, "name", None) in _PROBED_PACKAGES
            and isinstance(error, ModuleNotFoundError),
        }
    sys.stdout.write(f"\n{json.dumps(answer)}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
