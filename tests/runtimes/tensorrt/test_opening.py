"""Which engines the runtime opens, and which it refuses before they are deserialised."""

from dataclasses import replace

import pytest
from recording_device import RecordingDevice, describe_plans, open_recorded

from relo_edge.errors import BundleError, PrecisionError, RuntimeUnavailable
from relo_edge.runtime import RuntimeRequest, open_runtime
from relo_edge.runtimes.tensorrt import runtime as module
from relo_edge.runtimes.tensorrt.runtime import choose_engines


@pytest.mark.parametrize(
    "changes",
    [{"graph_sha256": "0" * 64}, {"tensorrt": "10.8"}, {"gpu": "Orin"}, {"plan_sha256": "0" * 64}],
)
def test_nothing_foreign_is_ever_deserialised(demo_bundle, monkeypatch, changes):
    monkeypatch.setattr("recording_device.Loader.deserialize_cuda_engine", pytest.fail)
    device = RecordingDevice()
    with pytest.raises(RuntimeUnavailable, match="build-engine"):
        open_recorded(demo_bundle, device=device, **changes)
    assert device.leftovers == (0, 0, 0, 0)


def test_an_engine_with_other_tensors_is_refused(demo_bundle):
    template = demo_bundle.graph("template")
    with pytest.raises(BundleError, match=r"template.onnx is not of the contract"):
        open_recorded(
            demo_bundle,
            plan=str(template),
            plan_sha256=describe_plans(demo_bundle, "fp32", 1)["template"].plan_sha256,
        )


def test_a_plan_that_does_not_load_is_named(demo_bundle, monkeypatch):
    monkeypatch.setattr("recording_device.Loader.deserialize_cuda_engine", lambda *_: None)
    with pytest.raises(RuntimeUnavailable, match=r"cannot load .*template.onnx"):
        open_recorded(demo_bundle)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_without_a_gpu_it_says_so(demo_bundle, monkeypatch, name):
    monkeypatch.setattr(module, "find_gpu", lambda: None)
    with pytest.raises(RuntimeUnavailable, match=f"{name} needs an NVIDIA GPU"):
        open_runtime(demo_bundle, name)


def request_with(monkeypatch, bundle, precision, *sidecars):
    monkeypatch.setattr(module, "list_sidecars", lambda *_: list(sidecars))
    return RuntimeRequest(bundle, "tensorrt", precision)


def test_the_best_whole_precision_is_chosen(demo_bundle, monkeypatch):
    floats = list(describe_plans(demo_bundle, "fp32", 1).values())
    halves = [replace(sidecar, precision="fp16") for sidecar in floats]
    orin = [replace(sidecar, compute_capability=(8, 7)) for sidecar in halves]

    def choose(precision, *sidecars):
        request = request_with(monkeypatch, demo_bundle, precision, *sidecars)
        return choose_engines(request, (8, 9))

    assert choose("auto", *floats, *halves)["step"] is halves[1]
    assert choose("auto", *floats, halves[0])["step"] is floats[1]
    assert choose("fp32", *floats, *halves)["step"] is floats[1]
    assert choose("fp16", *orin, *halves)["step"] is halves[1]
    assert choose("fp16", *halves, *orin)["step"] is halves[1]
    assert choose("fp16", *orin)["step"] is orin[1]
    with pytest.raises(PrecisionError, match=r"found int8, expected fp16 \| fp32; .*--int8"):
        choose("int8", *floats, *halves)
    with pytest.raises(RuntimeUnavailable, match=r"holds no engine.*build-engine .*--fp16"):
        choose("auto", floats[0])
