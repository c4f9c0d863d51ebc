"""Which engines the runtime opens, and which it refuses before they are deserialised."""

import hashlib
from dataclasses import replace

import pytest
from recording_device import GPU, RecordingDevice, open_recorded, write_plans

from relo_edge.errors import BundleError, PrecisionError, RuntimeUnavailable
from relo_edge.host.measured import Measurement, describe_place, keep_measurement
from relo_edge.runtime import RuntimeRequest, open_runtime
from relo_edge.runtimes.tensorrt import choice
from relo_edge.runtimes.tensorrt import runtime as module
from relo_edge.runtimes.tensorrt.choice import choose_engines
from relo_edge.runtimes.tensorrt.gpu import Gpu
from relo_edge.runtimes.tensorrt.trust import record_plan

ORIN_AGX = Gpu("Orin", (8, 7), 16, "NVIDIA Jetson AGX Orin Developer Kit", "MAXN")
ORIN_NANO = Gpu("Orin", (8, 7), 8, "NVIDIA Jetson Orin Nano Developer Kit", "15W")


@pytest.mark.parametrize(
    "changes",
    [
        {"graph_sha256": "0" * 64},
        {"tensorrt": "10.8"},
        {"gpu": "Orin"},
        {"sm_count": 8},
        {"board": ORIN_NANO.board},
        {"plan_sha256": "0" * 64},
        {"plan": "gone.plan"},
    ],
)
def test_nothing_foreign_is_ever_deserialised(small_bundle, monkeypatch, changes):
    monkeypatch.setattr("recording_device.Loader.deserialize_cuda_engine", pytest.fail)
    device = RecordingDevice()
    with pytest.raises(RuntimeUnavailable, match="build-engine"):
        open_recorded(small_bundle, device=device, **changes)
    assert device.leftovers == (0, 0, 0, 0)


@pytest.mark.parametrize("batches", [[(1, 1)], [(2, 2)], [(1, 3)], [(1, 1), (4, 4)]])
def test_engines_of_fixed_and_of_open_batch_open(small_bundle, batches):
    """TensorRT reports a number where the profile leaves no choice, and -1 elsewhere."""
    with open_recorded(small_bundle, batches=batches) as runtime:
        assert runtime.batch == 1


@pytest.mark.parametrize(("built", "told"), [((2, 2), 1), ((1, 2), 2)])
def test_an_engine_of_another_batch_than_its_sidecar_says_is_refused(small_bundle, built, told):
    with pytest.raises(BundleError, match="does not have the tensors of its contract"):
        open_recorded(small_bundle, 2, batches=[built], least=told)


def test_an_engine_with_other_tensors_is_refused(small_bundle, tmp_path, monkeypatch):
    template, step = write_plans(small_bundle, "fp32", [(1, 1)], tmp_path)
    swapped = [replace(template, graph="step"), replace(step, graph="template")]
    hashes = {s.graph: s.graph_sha256 for s in (template, step)}
    swapped = [replace(s, graph_sha256=hashes[s.graph]) for s in swapped]

    def swap(bundle, precision, batches, folder):
        write_plans(bundle, precision, batches, folder)
        return swapped[::-1]

    monkeypatch.setattr("recording_device.write_plans", swap)
    with pytest.raises(BundleError, match=r"step.fp32.1-1.plan does not have the tensors"):
        open_recorded(small_bundle)


def test_a_plan_that_does_not_load_is_named(small_bundle, monkeypatch):
    monkeypatch.setattr("recording_device.Loader.deserialize_cuda_engine", lambda *_: None)
    with pytest.raises(RuntimeUnavailable, match=r"cannot load template.fp32.*plan"):
        open_recorded(small_bundle)


@pytest.mark.slow
def test_a_plan_of_another_machine_needs_the_users_word(small_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with pytest.raises(RuntimeUnavailable, match=r"not built on this machine; .*--trust-engine"):
        open_recorded(small_bundle, trusted=False)
    open_recorded(small_bundle, trusted=True).close()
    for sidecar in write_plans(small_bundle, "fp32", [(1, 1)], tmp_path):
        record_plan(sidecar.plan_sha256)
    open_recorded(small_bundle, trusted=False).close()
    with pytest.raises(RuntimeUnavailable, match=r"holds code that the CPU runs; .*--trust-engine"):
        open_recorded(small_bundle, trusted=False, compatible="version")


def test_a_hash_in_a_sidecar_is_no_path(small_bundle, tmp_path, monkeypatch):
    """What is looked up is the plan's own hash."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    record_plan(hashlib.sha256(b"").hexdigest())
    with pytest.raises(RuntimeUnavailable, match="the plan is damaged"):
        open_recorded(small_bundle, trusted=False, plan_sha256="../../../bin/sh")


def test_a_plan_of_an_agx_is_refused_on_a_nano_by_name(small_bundle, monkeypatch):
    built_on = {"gpu": "Orin", "compute_capability": (8, 7), "sm_count": 16}
    monkeypatch.setattr("recording_device.GPU", ORIN_NANO)
    with pytest.raises(
        RuntimeUnavailable,
        match="its board: found .*AGX Orin.*, expected .*Orin Nano.*build-engine",
    ):
        open_recorded(small_bundle, **built_on, board=ORIN_AGX.board)
    with pytest.raises(RuntimeUnavailable, match="its number of SMs: found 16, expected 8"):
        open_recorded(small_bundle, **built_on, board=ORIN_NANO.board)


def test_another_power_mode_is_told(small_bundle, caplog):
    with caplog.at_level("WARNING", "relo_edge"):
        open_recorded(small_bundle, power_mode="30W").close()
    assert "tuned in power mode 30W, not none" in caplog.text


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_without_a_gpu_it_says_so(small_bundle, monkeypatch, name):
    monkeypatch.setattr(module, "find_gpu", lambda: None)
    with pytest.raises(RuntimeUnavailable, match=f"{name} needs an NVIDIA GPU"):
        open_runtime(small_bundle, name)


def test_the_best_whole_precision_is_chosen(small_bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    floats = write_plans(small_bundle, "fp32", [(1, 1)], tmp_path)
    halves = [replace(sidecar, precision="fp16") for sidecar in floats]
    orin = [
        replace(sidecar, compute_capability=(8, 7), sm_count=16, board=ORIN_AGX.board)
        for sidecar in halves
    ]

    def choose(precision, *sidecars, batch=1):
        monkeypatch.setattr(choice, "list_sidecars", lambda *_: list(sidecars))
        request = RuntimeRequest(small_bundle, "tensorrt", precision, batch=batch)
        return choose_engines(request, GPU).steps[1]

    assert choose("auto", *floats, *halves) is halves[1]
    assert choose("auto", *floats, halves[0]) is floats[1]
    assert choose("fp32", *floats, *halves) is floats[1]
    assert choose("fp16", *orin, *halves) is halves[1]
    assert choose("fp16", *halves, *orin) is halves[1]
    assert choose("fp16", *orin) is orin[1]
    assert choose("auto", *orin, *floats) is floats[1]
    with pytest.raises(PrecisionError, match=r"found int8, expected fp16 \| fp32; .*--int8"):
        choose("int8", *floats, *halves)
    with pytest.raises(RuntimeUnavailable, match=r"holds no engine.*build-engine .*--fp16"):
        choose("auto", floats[0])
    with pytest.raises(RuntimeUnavailable, match=r"found 1, expected 4 or more; .*--batch 4"):
        choose("fp16", *halves, batch=4)


def test_auto_prefers_what_was_measured_fastest_here_and_passed(
    small_bundle, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    floats = write_plans(small_bundle, "fp32", [(1, 1)], tmp_path)
    halves = [replace(s, precision="fp16", plan_sha256=s.plan_sha256[::-1]) for s in floats]
    monkeypatch.setattr(choice, "list_sidecars", lambda *_: [*floats, *halves])

    def choose(precision="auto"):
        return choose_engines(RuntimeRequest(small_bundle, "tensorrt", precision), GPU).precision

    def measure(step, milliseconds, passed=True, **changes):
        kept = Measurement(
            small_bundle.key,
            step.plan_sha256,
            "tensorrt",
            step.precision,
            1,
            milliseconds,
            passed,
            "10.9.0",
            describe_place(),
        )
        keep_measurement(replace(kept, **changes))

    assert choose() == "fp16"
    measure(floats[1], 2.0)
    assert choose() == "fp32"  # what was measured comes before what was not
    measure(halves[1], 1.0, place={"gpu": "another"})
    measure(halves[1], 1.0, artefact="0" * 64)
    assert choose() == "fp32"
    measure(halves[1], 1.0)
    assert choose() == "fp16"
    measure(halves[1], 1.0, passed=False)
    assert choose() == "fp32"
    assert choose("fp16") == "fp16"
    for path in (tmp_path / "state").rglob("*.json"):
        path.write_text("{")
    assert choose() == "fp16"
