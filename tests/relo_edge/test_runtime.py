"""Opening a runtime: as asked, or a word on why not; `auto` says what it chose."""

import logging
import shutil
import sys

import pytest
import torch

from relo_edge.bundle import Bundle
from relo_edge.errors import (
    BundleError,
    CheckpointError,
    DeviceError,
    InputError,
    MissingDependency,
    PrecisionError,
    RuntimeUnavailable,
)
from relo_edge.host.measured import keep_measurement
from relo_edge.ranking import measure_graph
from relo_edge.runtime import RUNTIMES, open_runtime, open_runtimes
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.spec import VARIANTS


@pytest.mark.slow
def test_auto_takes_the_first_that_opens_and_says_which_and_why(small_bundle, caplog):
    with caplog.at_level(logging.INFO, "relo_edge"):
        runtime = open_runtime(small_bundle.path)
    assert runtime.name == "openvino"
    assert f"runtime: openvino in {runtime.precision} on cpu" in caplog.text
    assert "passed over" not in caplog.text
    with caplog.at_level(logging.DEBUG, "relo_edge"):
        open_runtime(small_bundle.path)
    assert "passed over onnxruntime-cuda" in caplog.text


def test_auto_with_a_precision_takes_a_runtime_that_has_it(small_bundle):
    assert open_runtime(small_bundle.path, precision="fp32").precision == "fp32"


@pytest.mark.parametrize("name", ["auto", "onnxruntime"])
def test_a_mistyped_precision_is_told_from_one_that_is_missing(name):
    with pytest.raises(InputError) as told:
        open_runtime("demo", name, "int9")
    expected = "auto | fp32 | fp16 | bf16 | int8 | fp8; did you mean int8?"
    assert str(told.value) == f"precision: found int9, expected {expected}"


def test_a_precision_that_could_be_made_says_how(small_bundle):
    with pytest.raises(InputError, match="found int8, expected fp32; .*quantize .* --int8"):
        open_runtime(small_bundle.path, "onnxruntime", "int8")
    with pytest.raises(PrecisionError) as told:
        open_runtime("demo", precision="int8")
    assert str(told.value) == "demo holds no int8; make it with `relo-edge quantize demo --int8`"


def test_what_nothing_opens_is_told_for_the_cpu_first(small_bundle, monkeypatch):
    def fail(request):
        raise RuntimeUnavailable(f"{request.name} does not start")

    for module in set(RUNTIMES.values()):
        monkeypatch.setattr(f"{module}.open_runtime", fail)
    monkeypatch.setattr("relo_edge.runtimes.tensorrt.gpu.find_gpu", lambda: None)
    cpu = "no runtime can open this: openvino does not start; onnxruntime does not start; on GPUs: "
    with pytest.raises(RuntimeUnavailable, match=f"^{cpu}no NVIDIA GPU here; see `relo-edge doc"):
        open_runtime(small_bundle.path)
    gpu = Gpu("A GPU", (8, 9))
    monkeypatch.setattr("relo_edge.runtimes.tensorrt.gpu.find_gpu", lambda: gpu)
    with pytest.raises(RuntimeUnavailable, match=f"^{cpu}tensorrt does not start; onnxruntime-cud"):
        open_runtime(small_bundle.path)


def test_a_base_install_names_the_one_extra(small_bundle, monkeypatch):
    for package in ("onnxruntime", "openvino", "torch"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr("relo_edge.runtimes.tensorrt.gpu.find_gpu", lambda: None)
    with pytest.raises(MissingDependency) as told:
        open_runtime(small_bundle.path)
    assert str(told.value) == "no CPU runtime imports; `pip install 'relo-edge[cpu]'`"


def test_a_checkpoint_that_auto_cannot_open_is_told_as_by_name(tmp_path):
    with pytest.raises(InputError, match=r"none\.pth cannot be opened"):
        open_runtime(None, checkpoint=tmp_path / "none.pth")


def test_auto_says_once_that_there_is_no_bundle(tmp_path):
    with pytest.raises(InputError, match="nothing there") as told:
        open_runtime(tmp_path / "none")
    assert str(told.value).count("nothing there") == 1


def test_another_variants_checkpoint_is_refused_beside_a_bundle(small_bundle, tmp_path):
    t256, other = VARIANTS["t256"], tmp_path / "t256.pth"
    marker = torch.zeros(1, t256.temporal_tokens, t256.width)
    torch.save({"encoder.body.ttokens": marker}, other)
    with pytest.raises(CheckpointError, match="found t256, expected small"):
        open_runtime(small_bundle.path, "pytorch", checkpoint=other)


def test_auto_with_a_checkpoint_is_the_reference(small_bundle):
    checkpoint = small_bundle.manifest["checkpoint"]["path"]
    assert open_runtime(None, checkpoint=checkpoint).name == "pytorch"
    assert open_runtime(small_bundle.path, checkpoint=checkpoint).name == "pytorch"


def test_auto_does_not_hide_a_damaged_bundle(small_bundle, tmp_path):
    shutil.copytree(small_bundle.path, tmp_path / "bundle")
    (tmp_path / "bundle" / "step.onnx").unlink()
    with pytest.raises(BundleError, match="no such file"):
        open_runtime(tmp_path / "bundle")


@pytest.mark.parametrize(
    "error",
    [BundleError("engine x does not have the tensors"), DeviceError("no"), OSError("libnvinfer")],
)
def test_auto_outlives_one_runtimes_fault(small_bundle, tmp_path, monkeypatch, caplog, error):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def fail(_request):
        raise error

    monkeypatch.setattr("relo_edge.runtimes.tensorrt.runtime.open_runtime", fail)
    with caplog.at_level(logging.DEBUG, "relo_edge"), open_runtime(small_bundle.path) as runtime:
        assert runtime.name == "openvino"
    assert str(error) in caplog.text


def test_auto_takes_what_was_measured_fastest_on_this_machine(small_bundle, caplog):
    for name, milliseconds, passed in [
        ("openvino", 9.0, True),
        ("onnxruntime", 5.0, True),
        ("pytorch", 1.0, False),
    ]:
        keep_measurement(measure_graph(small_bundle, name, "fp32", 1, milliseconds, passed))
    with caplog.at_level(logging.INFO, "relo_edge"), open_runtime(small_bundle) as runtime:
        assert (runtime.name, runtime.precision) == ("onnxruntime", "fp32")
    told = "runtime: onnxruntime in fp32 on cpu, measured fastest on this machine"
    assert [record.message for record in caplog.records] == [told]
    assert open_runtime(small_bundle, batch=2).name == "onnxruntime"
    assert open_runtime(small_bundle, "openvino").name == "openvino"


def test_without_names_none_that_builds_for_minutes_is_opened(small_bundle, monkeypatch):
    asked = []

    def note(request):
        asked.append(request.name)
        raise RuntimeUnavailable("not here")

    for module in set(RUNTIMES.values()):
        monkeypatch.setattr(f"{module}.open_runtime", note)
    with pytest.raises(RuntimeUnavailable, match="no runtime opens here"):
        open_runtimes(small_bundle.path, None)
    assert set(asked) == set(RUNTIMES) - {"onnxruntime-tensorrt"}


def test_every_precision_that_the_bundle_holds_is_opened_once(small_bundle, monkeypatch):
    asked, closed = [], []

    class Opened:
        def __init__(self, request):
            asked.append((request.name, request.precision))
            best = "bf16" if request.name == "openvino" else "fp32"
            self.name = request.name
            self.precision = best if request.precision == "auto" else request.precision

        def close(self):
            closed.append((self.name, self.precision))

    for module in set(RUNTIMES.values()):
        monkeypatch.setattr(f"{module}.open_runtime", Opened)
    monkeypatch.setattr(Bundle, "precisions", ("fp32", "int8"))
    opened = open_runtimes(small_bundle.path, None, every_precision=True)
    found = [(one.name, one.precision) for one in opened]
    assert len(set(found)) == len(found)
    precisions = [precision for name, precision in found if name == "openvino"]
    assert precisions == ["bf16", "fp32", "int8"]
    assert ("onnxruntime", "auto") in asked
    assert ("onnxruntime", "fp32") in closed
    asked.clear()
    open_runtimes(small_bundle.path, None)
    assert {precision for _, precision in asked} == {"auto"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"name": "tensorflow"}, "found tensorflow, expected auto"),
        ({"name": "openvinno"}, "found openvinno, expected auto .*; did you mean openvino?"),
        ({"batch": 0}, "batch: found 0"),
        ({"threads": 0}, "threads: found 0"),
        ({"threads": 10**6}, "threads: found 1000000"),
        ({"name": "onnxruntime", "checkpoint": "x"}, "takes no checkpoint"),
    ],
)
def test_wrong_requests_are_told(small_bundle, arguments, word):
    with pytest.raises(InputError, match=word):
        open_runtime(small_bundle.path, **arguments)


def test_neither_bundle_nor_checkpoint():
    with pytest.raises(InputError, match="a bundle or a checkpoint is needed.*--bundle demo"):
        open_runtime(None)


def test_the_reference_wants_the_very_weights_of_the_bundle(small_bundle, tmp_path):
    shutil.copytree(small_bundle.path, tmp_path / "bundle")
    from relo_edge.bundle import write_manifest

    manifest = dict(small_bundle.manifest)
    other = tmp_path / "other.safetensors"
    manifest["checkpoint"] = {**manifest["checkpoint"], "path": str(other)}
    write_manifest(tmp_path / "bundle", manifest)
    with pytest.raises(InputError, match="name the checkpoint with --checkpoint"):
        open_runtime(tmp_path / "bundle", "pytorch")
    other.write_bytes(b"something else")
    with pytest.raises(InputError, match="other weights than the bundle's"):
        open_runtime(tmp_path / "bundle", "pytorch")


def test_a_provider_that_is_not_there_is_not_replaced_by_the_cpu(small_bundle):
    for name in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        try:
            runtime = open_runtime(small_bundle.path, name)
        except RuntimeUnavailable as error:
            assert "ExecutionProvider" in str(error)
        else:
            assert runtime.device == "cuda"


@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "torch"])
def test_a_missing_package_names_the_extra(small_bundle, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    name = "pytorch" if package == "torch" else package
    with pytest.raises(MissingDependency, match="pip install 'relo-edge"):
        open_runtime(small_bundle.path, name)


@pytest.mark.slow
def test_demo_is_a_bundle():
    first, second = open_runtime("demo", "onnxruntime"), open_runtime("demo", "openvino")
    assert first.variant == second.variant == VARIANTS["demo"]


def test_every_module_named_is_there():
    from importlib import import_module

    for module in RUNTIMES.values():
        assert callable(import_module(module).open_runtime)
