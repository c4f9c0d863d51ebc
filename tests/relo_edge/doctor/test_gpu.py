"""Driver and GPUs, from recorded texts and from a driver played by a test."""

import ctypes

import pytest

from relo_edge.doctor.gpu import judge_gpu
from relo_edge.doctor.subprocesses import Answer
from relo_edge.host.libcuda import list_devices

CLOSED_MODULE = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 01:02:03 UTC 2025
GCC version:  gcc version 12.3.0
"""
OPEN_MODULE = """\
NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder)
"""
JETSON_MODULE = """\
NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@)
"""
SMI = "NVIDIA H200, 570.86.15\n"
JETSON_SMI = "Orin (nvgpu), [N/A]\n"


def judge(evidence):
    return {finding.subject: finding for finding in judge_gpu(evidence)}


@pytest.mark.parametrize(
    ("facts", "version"),
    [
        ({"driver": CLOSED_MODULE}, "570.86.15"),
        ({"driver": OPEN_MODULE}, "580.65.06"),
        ({"driver": JETSON_MODULE, "nvidia_smi": JETSON_SMI}, "540.4.0"),
        ({"nvidia_smi": SMI}, "570.86.15"),
        ({"nvidia_smi": JETSON_SMI}, "version unknown"),
    ],
)
def test_the_driver_is_named_from_whichever_source_knows_it(record, gpu, facts, version):
    finding = judge(record(gpu, **facts))["driver"]
    assert (finding.mark, finding.detail) == ("ok", f"{version}, serves CUDA up to 12.8")


def test_each_gpu_gets_its_line(record, gpu):
    finding = judge(record(gpu))["gpu 0"]
    assert finding.detail == "NVIDIA H200, compute capability 9.0, 140.4 GiB"


def test_no_driver_is_said(record):
    assert judge(record())["driver"].detail == "no NVIDIA driver here (libcuda.so.1 not found)"


@pytest.mark.parametrize("facts", [{"driver": OPEN_MODULE}, {"nvidia_smi": SMI}])
def test_a_container_started_without_its_gpu_is_told_how_to_start(record, facts):
    finding = judge(record(**facts))["driver"]
    assert "libcuda.so.1 is not found" in finding.detail
    assert "--gpus all" in finding.fix


def test_a_driver_that_refuses_is_quoted(record):
    refusal = Answer(failure="cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH")
    finding = judge(record({"libcuda": refusal}, driver=OPEN_MODULE))["driver"]
    assert finding.mark == "missing"
    assert finding.detail == "580.65.06 cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"


class PlayedDriver:
    """libcuda's functions as ctypes sees them: pointers to fill, an error code to return."""

    def __init__(self, init_code=0):
        self.init_code = init_code

    def cuInit(self, flags):
        return self.init_code or flags

    def cuDriverGetVersion(self, version):
        version._obj.value = 13020
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device, index):
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name, length, device):
        name.value = f"GPU {device.value}".encode()[:length]
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):
        value._obj.value = {16: 8, 75: 8, 76: 7 - device.value}[attribute]
        return 0

    def cuDeviceTotalMem_v2(self, memory, device):
        memory._obj.value = 2**33 + device.value
        return 0

    def cuGetErrorName(self, code, name):
        name._obj.value = b"CUDA_ERROR_NO_DEVICE" if code == 100 else None
        return code != 100


def test_libcuda_lists_every_gpu(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: {"libcuda.so.1": PlayedDriver()}[name])
    assert list_devices() == {
        "cuda": [13, 2],
        "devices": [
            {"name": "GPU 0", "capability": [8, 7], "sm_count": 8, "memory": 2**33},
            {"name": "GPU 1", "capability": [8, 6], "sm_count": 8, "memory": 2**33 + 1},
        ],
    }


@pytest.mark.parametrize(
    ("code", "message"),
    [(100, "cuInit: CUDA_ERROR_NO_DEVICE"), (9999, "cuInit: error 9999")],
)
def test_libcuda_names_its_errors(monkeypatch, code, message):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: PlayedDriver(code))
    with pytest.raises(OSError, match=f"^{message}$"):
        list_devices()
