"""onnxruntime's GPU providers: what they are told, and what is refused, without a GPU."""

import gc
import shutil
import weakref

import pytest
from engines import add_fp16, add_int8

from relo_edge.bundle import open_bundle
from relo_edge.errors import PrecisionError, RuntimeUnavailable
from relo_edge.runtime import RuntimeRequest
from relo_edge.runtimes import gpu_providers, onnxruntime_gpu
from relo_edge.runtimes.gpu_providers import Opening, describe_providers
from relo_edge.runtimes.onnxruntime_gpu import OnnxGpuRuntime


@pytest.fixture(scope="module")
def bundle(small_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("all") / "b"
    shutil.copytree(small_bundle.path, folder)
    return add_int8(add_fp16(open_bundle(folder)))


def describe(bundle, runtime, precision, **changes):
    provider = gpu_providers.PROVIDERS[runtime]
    opening = Opening(runtime, provider, precision, **{"batch": 4, **changes})
    return describe_providers(bundle.graph("step", precision), opening)


@pytest.mark.parametrize(
    ("precision", "enabled"),
    [("fp32", set()), ("fp16", {"fp16"}), ("int8", {"fp16", "int8"})],
)
def test_tensorrt_is_told_the_precision_and_where_engines_are_kept(
    bundle, precision, enabled, monkeypatch, tmp_path
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (name, options), (second, rest) = describe(bundle, "onnxruntime-tensorrt", precision)
    assert (name, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert {
        kind for kind in ("fp16", "int8") if options.get(f"trt_{kind}_enable") == "1"
    } == enabled
    assert options["trt_engine_cache_enable"] == "1"
    assert options["trt_engine_cache_path"].startswith(str(tmp_path))
    assert rest == {"use_tf32": "0"}


def test_engines_of_other_graphs_precisions_and_batches_are_kept_apart(bundle):
    places = {
        describe(bundle, "onnxruntime-tensorrt", precision, batch=batch)[0][1][
            "trt_engine_cache_path"
        ]
        for precision in ("fp32", "fp16", "int8")
        for batch in (1, 4)
    }
    assert len(places) == 6


def test_graphs_are_captured_where_they_are_asked_for(bundle):
    ((_, options),) = describe(bundle, "onnxruntime-cuda", "fp16", cuda_graph=True)
    assert options == {"use_tf32": "0", "enable_cuda_graph": "1"}
    (_, options), _ = describe(bundle, "onnxruntime-tensorrt", "fp16", cuda_graph=True)
    assert options["trt_cuda_graph_enable"] == "1"


def note_opening(monkeypatch):
    asked = []

    def note(bundle, precision, name, provider, *, batch):
        asked.append(precision)

    monkeypatch.setattr(onnxruntime_gpu, "OnnxGpuRuntime", note)
    return asked


def test_the_best_precision_comes_first_and_int8_never_runs_as_float32(bundle, monkeypatch):
    asked = note_opening(monkeypatch)
    for name in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        onnxruntime_gpu.open_runtime(RuntimeRequest(bundle, name))
    onnxruntime_gpu.open_runtime(RuntimeRequest(bundle, "onnxruntime-tensorrt", "int8"))
    assert asked == ["fp16", "fp16", "int8"]
    with pytest.raises(RuntimeUnavailable, match=r"no INT8 products.*onnxruntime-tensorrt"):
        onnxruntime_gpu.open_runtime(RuntimeRequest(bundle, "onnxruntime-cuda", "int8"))
    with pytest.raises(PrecisionError, match=r"found fp8, expected fp16 \| fp32"):
        onnxruntime_gpu.open_runtime(RuntimeRequest(bundle, "onnxruntime-cuda", "fp8"))


def test_what_onnxruntime_prints_of_cuda_is_no_result(bundle, monkeypatch, capsys):
    """With a torch for CUDA beside it, onnxruntime 1.23 for CPUs prints a warning."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: print("WARNING"), raising=False)
    with pytest.raises(RuntimeUnavailable, match="expected CUDAExecutionProvider"):
        onnxruntime_gpu.open_runtime(RuntimeRequest(bundle, "onnxruntime-cuda"))
    assert capsys.readouterr() == ("", "")
    open_bound(bundle).close()
    assert capsys.readouterr().out == ""


def open_bound(bundle, **changes):
    name, provider = "onnxruntime-cuda", "CPUExecutionProvider"
    return OnnxGpuRuntime(bundle, "fp32", name, provider, device="cpu", **changes)


def test_the_batch_is_fixed(bundle):
    with open_bound(bundle, batch=3) as runtime:
        shapes = {value.name: value.shape for value in runtime._steps[0].get_inputs()}
        assert shapes["search"][0] == 3
        assert runtime._template.get_inputs()[0].shape[0] == 1


def test_closing_frees_the_sessions(bundle):
    runtime = open_bound(bundle)
    sessions = [weakref.ref(runtime._template), weakref.ref(runtime._steps[0])]
    runtime.close()
    gc.collect()
    assert [session() for session in sessions] == [None, None]


def test_a_graph_that_cannot_be_captured_is_run_without(bundle, monkeypatch, caplog):
    """CUDA graphs are asked for, and refused by the session."""
    opened = []
    real = onnxruntime_gpu.open_gpu_session

    def refuse(graph, opening):
        opened.append(opening.cuda_graph)
        if opening.cuda_graph:
            raise RuntimeError("not all nodes are on the GPU")
        return real(graph, opening)

    monkeypatch.setattr(onnxruntime_gpu, "open_gpu_session", refuse)
    monkeypatch.setattr(
        OnnxGpuRuntime,
        "_send",
        lambda self, array: self._onnxruntime.OrtValue.ortvalue_from_numpy(array),
    )
    with caplog.at_level("INFO", "relo_edge"):
        OnnxGpuRuntime(bundle, "fp32", "onnxruntime-cuda", "CPUExecutionProvider").close()
    assert opened == [False, True, False]
    assert "goes on without CUDA graphs: not all nodes" in caplog.text


def test_each_direction_has_a_session_of_its_own_where_graphs_are_captured(bundle, monkeypatch):
    monkeypatch.setattr(
        OnnxGpuRuntime,
        "_send",
        lambda self, array: self._onnxruntime.OrtValue.ortvalue_from_numpy(array),
    )
    with OnnxGpuRuntime(bundle, "fp32", "onnxruntime-cuda", "CPUExecutionProvider") as runtime:
        one, other = runtime._steps
        assert one is not other
