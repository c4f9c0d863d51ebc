"""Opening a runtime: as asked, or a word on why not; `auto` says what it chose."""

import logging
import shutil

import pytest

from relo_edge.bundle import Bundle
from relo_edge.errors import (
    BundleError,
    CheckpointError,
    DeviceError,
    InputError,
    MissingDependency,
    RuntimeUnavailable,
)
from relo_edge.host.measured import Measurement, describe_place, keep_measurement
from relo_edge.runtime import RUNTIMES, open_runtime, open_runtimes


def test_auto_takes_the_first_that_opens_and_says_which_and_why(demo_bundle, caplog):
    with caplog.at_level(logging.INFO, "relo_edge"):
        runtime = open_runtime(demo_bundle.path)
    assert runtime.name == "openvino"
    assert f"runtime: openvino in {runtime.precision} on cpu" in caplog.text
    assert "passed over" not in caplog.text
    with caplog.at_level(logging.DEBUG, "relo_edge"):
        open_runtime(demo_bundle.path)
    assert "passed over onnxruntime-cuda" in caplog.text


def test_auto_with_a_precision_takes_a_runtime_that_has_it(demo_bundle):
    assert open_runtime(demo_bundle.path, precision="fp32").precision == "fp32"
    with pytest.raises(RuntimeUnavailable, match="no runtime can open this"):
        open_runtime(demo_bundle.path, precision="fp7")


def test_a_precision_that_could_be_made_says_how(demo_bundle):
    with pytest.raises(InputError, match="found int8, expected fp32; .*quantize .* --int8"):
        open_runtime(demo_bundle.path, "onnxruntime", "int8")


def test_auto_says_once_that_there_is_no_bundle(tmp_path):
    with pytest.raises(InputError, match="nothing there") as told:
        open_runtime(tmp_path / "none")
    assert str(told.value).count("nothing there") == 1


def test_another_variants_checkpoint_is_refused_beside_a_bundle(demo_bundle, t256_bundle):
    other = t256_bundle.manifest["checkpoint"]["path"]
    with pytest.raises(CheckpointError, match="found t256, expected demo"):
        open_runtime(demo_bundle.path, "pytorch", checkpoint=other)


def test_auto_with_a_checkpoint_is_the_reference(demo_bundle):
    checkpoint = demo_bundle.manifest["checkpoint"]["path"]
    assert open_runtime(None, checkpoint=checkpoint).name == "pytorch"
    assert open_runtime(demo_bundle.path, checkpoint=checkpoint).name == "pytorch"


def test_auto_does_not_hide_a_damaged_bundle(demo_bundle, tmp_path):
    shutil.copytree(demo_bundle.path, tmp_path / "bundle")
    (tmp_path / "bundle" / "step.onnx").unlink()
    with pytest.raises(BundleError, match="no such file"):
        open_runtime(tmp_path / "bundle")


@pytest.mark.parametrize(
    "error",
    [BundleError("engine x does not have the tensors"), DeviceError("no"), OSError("libnvinfer")],
)
def test_auto_outlives_one_runtimes_fault(demo_bundle, tmp_path, monkeypatch, caplog, error):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def fail(_request):
        raise error

    monkeypatch.setattr("relo_edge.runtimes.tensorrt.runtime.open_runtime", fail)
    with caplog.at_level(logging.DEBUG, "relo_edge"), open_runtime(demo_bundle.path) as runtime:
        assert runtime.name == "openvino"
    assert str(error) in caplog.text


def test_auto_takes_what_was_measured_fastest_on_this_machine(demo_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for name, milliseconds, passed in [
        ("openvino", 9.0, True),
        ("onnxruntime", 5.0, True),
        ("pytorch", 1.0, False),
    ]:
        place = describe_place()
        keep_measurement(
            Measurement(demo_bundle.key, "", name, "fp32", 1, milliseconds, passed, "1", place)
        )
    assert open_runtime(demo_bundle).name == "onnxruntime"
    assert open_runtime(demo_bundle, batch=2).name == "openvino"


def test_without_names_none_that_builds_for_minutes_is_opened(demo_bundle, monkeypatch):
    asked = []

    def note(request):
        asked.append(request.name)
        raise RuntimeUnavailable("not here")

    for module in set(RUNTIMES.values()):
        monkeypatch.setattr(f"{module}.open_runtime", note)
    with pytest.raises(RuntimeUnavailable, match="no runtime opens here"):
        open_runtimes(demo_bundle.path, None)
    assert set(asked) == set(RUNTIMES) - {"onnxruntime-tensorrt"}


def test_every_precision_that_the_bundle_holds_is_opened_once(demo_bundle, monkeypatch):
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
    opened = open_runtimes(demo_bundle.path, None, every_precision=True)
    found = [(one.name, one.precision) for one in opened]
    assert len(set(found)) == len(found)
    precisions = [precision for name, precision in found if name == "openvino"]
    assert precisions == ["bf16", "fp32", "int8"]
    assert ("onnxruntime", "auto") in asked
    assert ("onnxruntime", "fp32") in closed
    asked.clear()
    open_runtimes(demo_bundle.path, None)
    assert {precision for _, precision in asked} == {"auto"}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"name": "tensorflow"}, "found tensorflow, expected auto"),
        ({"batch": 0}, "batch: found 0"),
        ({"threads": 0}, "threads: found 0"),
        ({"threads": 10**6}, "threads: found 1000000"),
        ({"name": "onnxruntime", "checkpoint": "x"}, "takes no checkpoint"),
    ],
)
def test_wrong_requests_are_told(demo_bundle, arguments, word):
    with pytest.raises(InputError, match=word):
        open_runtime(demo_bundle.path, **arguments)


def test_neither_bundle_nor_checkpoint():
    with pytest.raises(InputError, match="a bundle or a checkpoint is needed.*the word demo"):
        open_runtime(None)


def test_the_reference_wants_the_very_weights_of_the_bundle(demo_bundle, tmp_path):
    shutil.copytree(demo_bundle.path, tmp_path / "bundle")
    from relo_edge.bundle import write_manifest

    manifest = dict(demo_bundle.manifest)
    other = tmp_path / "other.safetensors"
    manifest["checkpoint"] = {**manifest["checkpoint"], "path": str(other)}
    write_manifest(tmp_path / "bundle", manifest)
    with pytest.raises(InputError, match="name the checkpoint with --checkpoint"):
        open_runtime(tmp_path / "bundle", "pytorch")
    other.write_bytes(b"something else")
    with pytest.raises(InputError, match="other weights than the bundle's"):
        open_runtime(tmp_path / "bundle", "pytorch")


def test_a_provider_that_is_not_there_is_not_replaced_by_the_cpu(demo_bundle):
    for name in ("onnxruntime-cuda", "onnxruntime-tensorrt"):
        try:
            runtime = open_runtime(demo_bundle.path, name)
        except RuntimeUnavailable as error:
            assert "ExecutionProvider" in str(error)
        else:
            assert runtime.device == "cuda"


@pytest.mark.slow
@pytest.mark.parametrize("package", ["onnxruntime", "openvino", "torch"])
def test_a_missing_package_names_the_extra(demo_bundle, monkeypatch, package):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    name = "pytorch" if package == "torch" else package
    with pytest.raises(MissingDependency, match="pip install 'relo-edge"):
        open_runtime(demo_bundle.path, name)


@pytest.mark.slow
def test_demo_is_a_bundle(demo_bundle):
    first, second = open_runtime("demo", "onnxruntime"), open_runtime("demo", "openvino")
    assert first.variant == second.variant == demo_bundle.variant


def test_every_module_named_is_there():
    from importlib import import_module

    for module in RUNTIMES.values():
        assert callable(import_module(module).open_runtime)
