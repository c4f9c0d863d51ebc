"""The two packages that speak to CUDA: what they are asked for exists, and a lack is explained."""

import ast
import sys
from pathlib import Path

import numpy as np
import pytest

from relo_edge.errors import DeviceError, MissingDependency, RuntimeUnavailable
from relo_edge.runtimes.tensorrt import cuda_python, device
from relo_edge.runtimes.tensorrt.cuda_python import CudaPython
from relo_edge.runtimes.tensorrt.device import explain_failure, open_device
from relo_edge.runtimes.tensorrt.pycuda import PyCuda


def list_calls():
    """Every CUDA function and type that the source names."""
    tree = ast.parse(Path(cuda_python.__file__).read_text())
    names = [
        node.args[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "_call"
    ]
    names += [
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and getattr(node.value, "attr", getattr(node.value, "id", "")) in ("_cuda", "driver")
    ]
    return sorted({name for name in names if name.lower().startswith("cu")})


def test_cuda_python_has_all_that_is_asked_of_it():
    from cuda.bindings import driver

    calls = list_calls()
    assert {"cuMemAlloc", "cuGraphInstantiate", "CUstream_flags"} <= set(calls)
    assert len(calls) > 20
    assert [name for name in calls if not hasattr(driver, name)] == []


def test_no_cuda_runtime_of_the_bindings_own_is_used():
    """It is of one version, and refuses older drivers: error 35 on JetPack 6."""
    source = Path(cuda_python.__file__).read_text()
    assert "bindings import runtime" not in source
    assert "cudart" not in source


class Answers:
    """cuda-python's driver interface with the answers of some machine."""

    def __init__(self, driver, answers):
        self._driver, self._answers = driver, answers

    def __getattr__(self, name):
        if name in self._answers:
            answer = self._answers[name]
            return answer if callable(answer) else lambda *_: answer
        return getattr(self._driver, name)


@pytest.fixture
def answer(monkeypatch):
    """Let cuda-python answer so."""
    import cuda.bindings
    from cuda.bindings import driver as real

    def use(**answers):
        monkeypatch.setattr(cuda.bindings, "driver", Answers(real, answers))

    return use


def error(number):
    from cuda.bindings import driver

    return driver.CUresult(number)


def test_why_cuda_python_does_not_open(answer):
    def lack(_flags):
        raise RuntimeError('"cuda" is an NVIDIA driver library')

    answer(cuInit=lack)
    with pytest.raises(RuntimeUnavailable, match="finds no NVIDIA driver: found .cuda. is an"):
        CudaPython()
    answer(cuInit=(error(803),))
    with pytest.raises(RuntimeUnavailable, match="cannot start CUDA: found CUDA_ERROR_SYSTEM_DR"):
        CudaPython()
    answer(cuInit=(error(0),), cuDeviceGetCount=(error(0), 0))
    with pytest.raises(RuntimeUnavailable, match="finds no GPU"):
        CudaPython()


def open_faked(answer, **answers):
    stack = []
    answer(
        cuInit=(error(0),),
        cuDeviceGetCount=(error(0), 1),
        cuDeviceGet=(error(0), 0),
        cuDevicePrimaryCtxRetain=(error(0), "primary"),
        cuCtxPushCurrent=lambda context: stack.append(context) or (error(0),),
        cuCtxPopCurrent=lambda: (error(0), stack.pop()),
        **answers,
    )
    opened = CudaPython()
    opened.stack = stack
    return opened


def test_a_full_gpu_says_what_to_do(answer):
    opened = open_faked(answer, cuMemAlloc=(error(2), None))
    with opened.activate(), pytest.raises(DeviceError) as refused:
        opened.allocate(1 << 40)
    assert "cuMemAlloc failed: found CUDA_ERROR_OUT_OF_MEMORY" in str(refused.value)
    assert "close what else uses the GPU" in str(refused.value)


def test_an_error_bears_cudas_own_name(answer):
    opened = open_faked(answer, cuStreamSynchronize=(error(700),))
    with pytest.raises(DeviceError, match="found CUDA_ERROR_ILLEGAL_ADDRESS$"):
        opened.synchronize(1)


def test_a_function_that_the_driver_lacks_is_an_error_of_the_device(answer):
    def lack(*_):
        raise RuntimeError('Function "cuGraphInstantiate" not found')

    opened = open_faked(
        answer,
        cuStreamEndCapture=(error(0), "graph"),
        cuGraphInstantiate=lack,
        cuGraphDestroy=(error(0),),
    )
    with pytest.raises(DeviceError, match="the NVIDIA driver has no cuGraphInstantiate"):
        opened.graphs.end(1)


def test_pinned_memory_is_a_view_of_cudas(answer):
    memory = np.zeros(64, np.uint8)
    opened = open_faked(answer, cuMemHostAlloc=(error(0), memory.ctypes.data))
    pinned = opened.allocate_pinned(64)
    pinned[3] = 7
    assert memory[3] == 7
    opened._cuda._answers["cuMemFreeHost"] = (error(1),)
    with pytest.raises(DeviceError, match="CUDA_ERROR_INVALID_VALUE"):
        opened.free_pinned(pinned)


def test_the_thread_keeps_the_context_it_had(answer):
    opened = open_faked(answer)
    opened.stack.append("of torch")
    with pytest.raises(KeyError), opened.activate():
        raise KeyError(opened.stack.index("primary"))
    assert opened.stack == ["of torch"]


def play_driver(monkeypatch, *cuda):
    monkeypatch.setattr(device, "list_devices", lambda: {"cuda": cuda, "devices": []})


def refuse_cuda_python(monkeypatch, kind=RuntimeUnavailable):
    def refuse():
        raise kind("cuda-python cannot start CUDA", found="error 35")

    monkeypatch.setattr(cuda_python, "CudaPython", refuse)


@pytest.mark.parametrize("kind", [MissingDependency, RuntimeUnavailable, DeviceError])
def test_pycuda_stands_in_where_cuda_python_does_not_open(monkeypatch, kind):
    refuse_cuda_python(monkeypatch, kind)
    monkeypatch.setattr("relo_edge.runtimes.tensorrt.pycuda.PyCuda", lambda: "pycuda")
    assert open_device() == "pycuda"


@pytest.mark.parametrize(
    ("cuda", "wheel"),
    [((12, 6), "cuda-bindings>=12.6,<13"), ((13, 2), "cuda-bindings>=13.0,<14")],
)
def test_where_none_opens_the_wheel_for_this_driver_is_named(monkeypatch, cuda, wheel):
    monkeypatch.setitem(sys.modules, "pycuda", None)
    play_driver(monkeypatch, *cuda)
    for kind, raised in [
        (RuntimeUnavailable, RuntimeUnavailable),
        (MissingDependency, MissingDependency),
    ]:
        refuse_cuda_python(monkeypatch, kind)
        with pytest.raises(raised) as refused:
            open_device()
        assert "cuda-python cannot start CUDA: found error 35; pycuda does not" in str(
            refused.value
        )
        assert f"`pip install '{wheel}'`" in str(refused.value)


def test_pycuda_captures_no_graphs():
    assert PyCuda.graphs is None


def test_only_a_full_memory_has_a_remedy():
    assert "close" not in str(explain_failure("x", "CUDA_ERROR_LAUNCH_FAILED"))
    assert "close" in str(explain_failure("mem_alloc", "cuMemAlloc failed: out of memory"))


@pytest.mark.gpu
def test_memory_streams_and_graphs_on_the_real_one():
    opened = open_device()
    with opened.activate():
        stream, address = opened.create_stream(), opened.allocate(1024)
        pinned, back = opened.allocate_pinned(1024), opened.allocate_pinned(1024)
        pinned[:] = np.arange(1024) % 251

        def carry():
            opened.send(address, pinned, stream)
            opened.move(address + 512, address, 512, stream)
            opened.fetch(back, address, stream)

        carry()
        opened.synchronize(stream)
        assert np.array_equal(back[512:], pinned[:512])
        if opened.graphs:
            opened.graphs.begin(stream)
            carry()
            graph = opened.graphs.end(stream)
            pinned[:] = 9
            opened.graphs.launch(graph, stream)
            opened.synchronize(stream)
            assert (back == 9).all()
            opened.graphs.destroy(graph)
        assert opened.time_call(carry, stream) > 0
        opened.clear(address, 1024, stream)
        opened.fetch(back, address, stream)
        opened.synchronize(stream)
        assert not back.any()
        opened.free_pinned(pinned)
        opened.free_pinned(back)
        opened.free(address)
        opened.destroy_stream(stream)
