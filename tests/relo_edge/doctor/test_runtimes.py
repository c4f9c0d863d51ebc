"""Which runtimes open, and the reason and command for each that does not."""

import sys

import pytest

from relo_edge.doctor.probe import open_cuda
from relo_edge.doctor.runtimes import judge_runtimes
from relo_edge.doctor.subprocesses import Answer
from relo_edge.runtime import RUNTIMES

ABSENT = Answer(failure="No module named 'x'", absent=True)
TENSORRT = {"version": "10.13.0.35", "cuda": ""}
FALLBACK = {"version": "1.31.1", "listed": True, "opened": False}

# What onnxruntime-gpu logs while it turns to the CPU.
LOADER = (
    "[E:onnxruntime:Default, provider_bridge_ort.cc:2458 operator()] [ONNXRuntimeError] : 1 : FAIL "
    ": Failed to load library /site-packages/onnxruntime/capi/libonnxruntime_providers_{}.so with "
    "error: {}: cannot open shared object file: No such file or directory"
)


def judge(evidence, subject):
    return next(f for f in judge_runtimes(evidence) if f.subject == subject)


def test_the_desktop_runs_the_cpu_runtimes(record):
    marks = {finding.subject: finding.mark for finding in judge_runtimes(record())}
    assert marks == {
        "onnxruntime": "ok",
        "openvino": "ok",
        "pytorch": "ok",
        "onnxruntime-cuda": "missing",
        "onnxruntime-tensorrt": "missing",
        "tensorrt": "missing",
        "tensorrt-rtx": "missing",
    }
    assert set(marks) == set(RUNTIMES)


@pytest.mark.parametrize(
    ("subject", "extra", "package"),
    [
        ("pytorch", "export", "torch"),
        ("onnxruntime", "cpu", "onnxruntime"),
        ("openvino", "cpu", "openvino"),
    ],
)
def test_an_absent_runtime_comes_with_its_extra(record, subject, extra, package):
    finding = judge(record({subject: ABSENT}), subject)
    assert finding.mark == "missing"
    assert finding.fix == f"`pip install 'relo-edge[{extra}]'`"
    broken = judge(record({subject: Answer(failure="undefined symbol: x")}), subject)
    assert (broken.detail, broken.fix) == (
        "undefined symbol: x",
        f"`pip install --force-reinstall {package}`",
    )


def test_no_advice_puts_onnxruntime_over_onnxruntime_gpu(record):
    packages = ["onnxruntime-gpu 1.31.1"]
    absent = judge(record({"openvino": ABSENT}, packages), "openvino")
    assert absent.fix == "`pip install openvino`"
    broken = judge(record({"onnxruntime": Answer(failure="broken")}, packages), "onnxruntime")
    assert broken.fix == "`pip install --force-reinstall onnxruntime-gpu`"


def test_openvino_without_its_cpu_plugin_is_refused(record):
    lone = Answer({"version": "2026.4.1", "devices": ["GPU"]})
    assert judge(record({"openvino": lone}), "openvino").mark == "missing"


def test_a_cpu_build_of_pytorch_beside_a_gpu_is_warned_of(record, gpu):
    assert judge(record(gpu), "pytorch").mark == "warning"
    cuda = Answer({"version": "2.13.0+cu130", "cuda": True})
    finding = judge(record(gpu | {"pytorch": cuda}), "pytorch")
    assert (finding.mark, finding.detail) == ("ok", "2.13.0+cu130, on CUDA and the CPU")


def test_a_listed_provider_without_a_gpu_is_refused(record):
    finding = judge(record({"onnxruntime-cuda": Answer(FALLBACK)}), "onnxruntime-cuda")
    assert finding.mark == "missing"
    assert finding.detail == (
        "1.31.1 lists it, but would quietly run on the CPU: no NVIDIA GPU here"
    )


@pytest.mark.parametrize(
    ("subject", "library", "fix"),
    [
        ("onnxruntime-cuda", "libcublasLt.so.13", "`pip install 'onnxruntime-gpu[cuda,cudnn]'`"),
        (
            "onnxruntime-tensorrt",
            "libnvinfer.so.10",
            "install TensorRT 10, its libraries on LD_LIBRARY_PATH",
        ),
    ],
)
def test_a_provider_that_falls_back_names_the_library(record, gpu, subject, library, fix):
    chatter = LOADER.format(subject.rpartition("-")[2], library)
    finding = judge(record(gpu | {subject: Answer(FALLBACK, chatter=chatter)}), subject)
    assert finding.mark == "missing"
    assert finding.detail.endswith(f"would quietly run on the CPU: {library} not found")
    assert finding.fix == fix


def test_a_provider_that_falls_back_in_silence_is_refused_too(record, gpu):
    finding = judge(record(gpu | {"onnxruntime-cuda": Answer(FALLBACK)}), "onnxruntime-cuda")
    assert finding.mark == "missing"
    assert finding.detail.endswith("it does not say why")


def test_a_provider_that_opened_is_accepted(record, gpu):
    opened = Answer({"version": "1.31.1", "listed": True, "opened": True})
    assert judge(record(gpu | {"onnxruntime-cuda": opened}), "onnxruntime-cuda").mark == "ok"


def test_a_cpu_build_of_onnxruntime_must_go_before_the_gpu_one_comes(record, gpu):
    finding = judge(record(gpu), "onnxruntime-cuda")
    assert finding.fix == "`pip uninstall -y onnxruntime && pip install 'relo-edge[gpu]'`"
    finding = judge(record(gpu | {"onnxruntime-cuda": ABSENT}), "onnxruntime-cuda")
    assert finding.fix == "`pip install 'relo-edge[gpu]'`"
    finding = judge(record(gpu, board="NVIDIA Jetson AGX Thor"), "onnxruntime-cuda")
    assert "wheel for this JetPack" in finding.fix


def test_a_provider_probe_that_crashed_is_quoted(record, gpu):
    crash = Answer(failure="importing it crashes (SIGSEGV)")
    finding = judge(record(gpu | {"onnxruntime-cuda": crash}), "onnxruntime-cuda")
    assert (finding.mark, finding.detail) == ("missing", "importing it crashes (SIGSEGV)")


@pytest.mark.parametrize(
    ("subject", "package"), [("tensorrt", "tensorrt"), ("tensorrt-rtx", "tensorrt_rtx")]
)
def test_tensorrt_opens_with_a_gpu_and_a_package_for_cuda(record, gpu, subject, package):
    assert judge(record(gpu | {package: Answer(TENSORRT)}), subject).mark == "ok"
    assert judge(record({package: Answer(TENSORRT)}), subject).mark == "missing"
    bare = Answer(TENSORRT | {"cuda": "cuda-python: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"})
    for cuda, wheel in ([12, 6], "cuda-bindings>=12.6,<13"), ([13, 2], "cuda-bindings>=13.0,<14"):
        driver = {"libcuda": Answer(gpu["libcuda"].facts | {"cuda": cuda})}
        finding = judge(record(gpu | driver | {package: bare}), subject)
        assert (finding.mark, finding.fix) == ("missing", f"`pip install '{wheel}'`")
        assert "no CUDA binding opens the GPU: cuda-python: cuInit" in finding.detail


def test_a_tensorrt_that_the_driver_cannot_serve_is_quoted(record, gpu):
    logged = "[11/21/2026-02:51:27] [TRT] [E] [checkMacros.cpp::catchCudaError::250] cudaError 35"
    nullptr = Answer(failure="factory function returned nullptr", chatter=f"\n{logged}\n")
    assert judge(record(gpu | {"tensorrt": nullptr}), "tensorrt").detail == "cudaError 35"
    silent = Answer(failure="factory function returned nullptr")
    assert judge(record(gpu | {"tensorrt": silent}), "tensorrt").detail == silent.failure


def test_a_tensorrt_without_strong_typing_is_too_old(record, gpu):
    old = {"tensorrt": Answer(TENSORRT | {"version": "8.6.1"})}
    finding = judge(record(gpu | old), "tensorrt")
    assert (finding.mark, finding.fix) == ("missing", "`pip install 'relo-edge[tensorrt-cu12]'`")
    finding = judge(record(gpu | old, tegra_release="# R35"), "tensorrt")
    assert finding.fix == "install JetPack 6.1 or newer"


def test_an_absent_tensorrt_comes_from_where_the_machine_gets_it(record, gpu):
    for cuda, suffix in ([12, 8], "-cu12"), ([13, 0], ""):
        driver = {"libcuda": Answer(gpu["libcuda"].facts | {"cuda": cuda})}
        assert f"relo-edge[tensorrt{suffix}]" in judge(record(gpu | driver), "tensorrt").fix
        assert f"relo-edge[rtx{suffix}]" in judge(record(gpu | driver), "tensorrt-rtx").fix
    jetson = record(gpu, board="NVIDIA Jetson Orin NX")
    assert "nvidia-jetpack" in judge(jetson, "tensorrt").fix
    assert judge(jetson, "tensorrt-rtx").detail == "not made for Jetson: use tensorrt"
    assert judge(record(), "tensorrt").fix == ""


def play_binding(monkeypatch, **answers):
    """cuda-python's driver interface, where every call succeeds but those named."""
    calls = []

    class Driver:
        def __getattr__(self, name):
            def call(*arguments):
                calls.append(name)
                code = answers.get(name, 0)
                return code, 7

            return call

    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", Driver())
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)
    return calls


def test_a_cuda_binding_has_to_open_the_gpu_for_real(monkeypatch):
    calls = play_binding(monkeypatch)
    assert open_cuda() == ""
    assert calls.index("cuDevicePrimaryCtxRetain") < calls.index("cuMemAlloc")
    assert calls[-3:] == ["cuMemFree", "cuCtxPopCurrent", "cuDevicePrimaryCtxRelease"]
    from cuda.bindings import driver

    monkeypatch.undo()
    assert [name for name in set(calls) if not hasattr(driver, name)] == []


def test_a_binding_that_imports_and_does_not_open_is_no_binding(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)

    def refuse(_flags):
        return driver.CUresult(803), None

    from cuda.bindings import driver

    monkeypatch.setattr(driver, "cuInit", refuse)
    told = open_cuda()
    assert told.startswith("cuda-python: cuInit: CUDA_ERROR_SYSTEM_DRIVER_MISMATCH; ")
    assert "pycuda" in told
