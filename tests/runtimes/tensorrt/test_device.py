"""The two packages that speak to CUDA: what they are asked for exists, and a lack is explained."""

import ast
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from relo_edge.errors import DeviceError, MissingDependency, RuntimeUnavailable
from relo_edge.runtimes.tensorrt import cuda_python
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
        and getattr(node.value, "attr", getattr(node.value, "id", "")) in ("_cuda", "runtime")
    ]
    return sorted({name for name in names if name.startswith("cuda")})


def test_cuda_python_has_all_that_is_asked_of_it():
    from cuda.bindings import runtime

    calls = list_calls()
    assert {"cudaMalloc", "cudaGraphInstantiate", "cudaMemcpyKind"} <= set(calls)
    assert len(calls) > 20
    assert [name for name in calls if not hasattr(runtime, name)] == []
    for kind in ("HostToDevice", "DeviceToHost", "DeviceToDevice"):
        assert hasattr(runtime.cudaMemcpyKind, f"cudaMemcpy{kind}")


class Answers:
    """cuda-python's runtime with the answers of some machine."""

    def __init__(self, runtime, answers):
        self._runtime, self._answers = runtime, answers

    def __getattr__(self, name):
        if name in self._answers:
            return lambda *_: self._answers[name]
        return getattr(self._runtime, name)


@pytest.fixture
def answer(monkeypatch):
    """Let cuda-python answer so."""

    import cuda.bindings
    from cuda.bindings import runtime as real

    def use(**answers):
        monkeypatch.setattr(cuda.bindings, "runtime", Answers(real, answers))

    return use


def error(number):
    from cuda.bindings import runtime

    return runtime.cudaError_t(number)


@pytest.mark.parametrize(
    ("driver", "said"),
    [
        (0, "the GPU: found no NVIDIA driver"),
        (12040, r"driver is too old: found CUDA 12\.4, expected CUDA 13\.0 or newer"),
        (13010, "found a driver but no GPU"),
    ],
)
def test_why_there_is_no_gpu(answer, driver, said):
    answer(
        cudaGetDeviceCount=(error(35 if driver < 13000 else 100), None),
        cudaDriverGetVersion=(error(0), driver),
        cudaRuntimeGetVersion=(error(0), 13050),
    )
    with pytest.raises(RuntimeUnavailable, match=said):
        CudaPython()


def open_faked(answer, **answers):
    answer(
        cudaGetDeviceCount=(error(0), 1),
        cudaGetDeviceProperties=(error(0), types.SimpleNamespace(name=b"NVIDIA H200")),
        cudaDeviceGetAttribute=(error(0), 9),
        cudaGetDevice=(error(0), 0),
        **answers,
    )
    return CudaPython()


def test_a_full_gpu_says_what_to_do(answer):
    opened = open_faked(answer, cudaMalloc=(error(2), None))
    assert (opened.gpu, opened.capability) == ("NVIDIA H200", (9, 9))
    with opened.activate(), pytest.raises(DeviceError) as refused:
        opened.allocate(1 << 40)
    assert "cudaMalloc failed: found cudaErrorMemoryAllocation" in str(refused.value)
    assert "close what else uses the GPU" in str(refused.value)


def test_an_error_bears_cudas_own_name(answer):
    opened = open_faked(answer, cudaStreamSynchronize=(error(700),))
    with pytest.raises(DeviceError, match="found cudaErrorIllegalAddress$"):
        opened.synchronize(1)


def test_pinned_memory_is_a_view_of_cudas(answer):
    memory = np.zeros(64, np.uint8)
    opened = open_faked(answer, cudaMallocHost=(error(0), memory.ctypes.data))
    pinned = opened.allocate_pinned(64)
    pinned[3] = 7
    assert memory[3] == 7
    opened._cuda._answers["cudaFreeHost"] = (error(1),)
    with pytest.raises(DeviceError, match="cudaErrorInvalidValue"):
        opened.free_pinned(pinned)


def test_another_gpu_of_the_thread_is_given_back(answer):
    chosen = []
    opened = open_faked(answer)
    opened._cuda = types.SimpleNamespace(
        cudaGetDevice=lambda: (error(0), 1),
        cudaSetDevice=lambda number: chosen.append(number) or (error(0),),
    )
    with opened.activate():
        assert chosen == [0]
    assert chosen == [0, 1]


def test_pycuda_stands_in_where_cuda_python_is_missing(monkeypatch):
    def lack():
        raise MissingDependency("cuda-python does not import", found="No module named 'cuda'")

    monkeypatch.setattr(cuda_python, "CudaPython", lack)
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(MissingDependency, match=r"cuda-python does not import.*pycuda does not"):
        open_device()
    monkeypatch.setattr("relo_edge.runtimes.tensorrt.pycuda.PyCuda", lambda: "pycuda")
    assert open_device() == "pycuda"


def test_pycuda_captures_no_graphs():
    assert PyCuda.graphs is None


def test_only_a_full_memory_has_a_remedy():
    assert "close" not in str(explain_failure("x", "cudaErrorLaunchFailure"))
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
