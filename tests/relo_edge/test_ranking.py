"""What `auto` opens first: what was measured here and still holds; all else keeps its order."""

import json
from dataclasses import replace

import pytest

from relo_edge.bundle import Bundle
from relo_edge.host.measured import Measurement, describe_place, keep_measurement
from relo_edge.ranking import PACKAGES, RankedRuntime, measure_graph, rank_runtimes, runs_graphs
from relo_edge.runtime import RUNTIMES, open_runtime

NAMES = list(RUNTIMES)
GPU_FIRST = NAMES[: NAMES.index("openvino")]


@pytest.fixture
def bundle(small_bundle):
    """With INT8, as `quantize` leaves it; no file of it is read."""
    manifest = dict(small_bundle.manifest)
    graphs, files = dict(manifest["graphs"]), dict(manifest["files"])
    graphs["int8"] = {**graphs["fp32"], "step": "step.int8.onnx"}
    files["step.int8.onnx"] = {"bytes": 1, "sha256": "8" * 64}
    return Bundle(
        small_bundle.path, small_bundle.variant, {**manifest, "graphs": graphs, "files": files}
    )


def keep(bundle, runtime, precision, milliseconds, passed=True, batch=1):
    keep_measurement(measure_graph(bundle, runtime, precision, batch, milliseconds, passed))


def rank(bundle, precision="auto", batch=1):
    return rank_runtimes(bundle, precision, batch, NAMES)


def list_measured(bundle, **asked):
    return [(one.runtime, one.precision) for one in rank(bundle, **asked) if one.measured]


def test_without_measurements_it_is_the_fixed_order(bundle):
    assert rank(bundle) == [RankedRuntime(name, "auto") for name in RUNTIMES]
    assert rank(bundle, "int8") == [RankedRuntime(name, "int8") for name in RUNTIMES]


def test_the_fastest_that_passed_comes_first_in_its_precision(bundle):
    keep(bundle, "openvino", "bf16", 2.0)
    keep(bundle, "openvino", "int8", 1.6)
    keep(bundle, "onnxruntime", "int8", 2.8)
    keep(bundle, "onnxruntime", "fp32", 1.0, passed=False)
    assert list_measured(bundle) == [
        ("openvino", "int8"),
        ("openvino", "bf16"),
        ("onnxruntime", "int8"),
    ]
    assert list_measured(bundle, precision="int8") == [
        ("openvino", "int8"),
        ("onnxruntime", "int8"),
    ]
    assert list_measured(bundle, precision="fp32") == []


def test_what_comes_before_and_was_not_measured_stays_before(bundle):
    keep(bundle, "onnxruntime", "int8", 1.0)
    order = [(one.runtime, one.measured) for one in rank(bundle)]
    before = [*GPU_FIRST, "openvino"]
    assert order[: len(before)] == [(name, False) for name in before]
    assert order[len(before)] == ("onnxruntime", True)
    assert [name for name, measured in order if not measured] == NAMES


def test_what_was_measured_and_is_another_tracker_comes_last(bundle):
    keep(bundle, "openvino", "fp32", 1.0, passed=False)
    others = [name for name in NAMES if name != "openvino"]
    assert [one.runtime for one in rank(bundle)] == [*others, "openvino"]
    keep(bundle, "onnxruntime", "fp32", 2.0)
    order = [one.runtime for one in rank(bundle)]
    assert order == [*GPU_FIRST, "onnxruntime", *others[len(GPU_FIRST) :], "openvino"]
    keep(bundle, "openvino", "int8", 3.0)  # the same tracker in another precision
    assert list_measured(bundle) == [("onnxruntime", "fp32"), ("openvino", "int8")]
    assert [one.runtime for one in rank(bundle)][-1] != "openvino"


def test_a_plan_that_failed_may_have_been_built_again(bundle):
    failed = Measurement(
        bundle.key, "a plan", "tensorrt", "int8", 1, 1.0, False, "11.0", describe_place()
    )
    keep_measurement(failed)
    assert [one.runtime for one in rank(bundle)] == NAMES


@pytest.mark.parametrize(
    "changes",
    [
        {"bundle": "0" * 64},
        {"artefact": "0" * 64},
        {"version": "0.1"},
        {"place": {**describe_place(), "cpu": "another CPU"}},
        {"place": {**describe_place(), "cores": "1000"}},
        {"runtime": "one of another version"},
    ],
)
def test_what_is_foreign_or_stale_does_not_count(bundle, changes):
    keep_measurement(replace(measure_graph(bundle, "openvino", "int8", 1, 1.0, True), **changes))
    assert list_measured(bundle) == []
    keep(bundle, "openvino", "int8", 1.0)
    assert list_measured(bundle) == [("openvino", "int8")]


def test_int8_made_again_is_measured_again(bundle, small_bundle):
    keep(bundle, "openvino", "int8", 1.0)
    files = {**bundle.manifest["files"], "step.int8.onnx": {"bytes": 1, "sha256": "9" * 64}}
    again = Bundle(bundle.path, bundle.variant, {**bundle.manifest, "files": files})
    assert list_measured(again) == []


def test_one_by_one_a_time_for_one_target_holds_for_any_number(bundle):
    keep(bundle, "openvino", "int8", 2.0)
    keep(bundle, "onnxruntime", "int8", 6.0, batch=4)
    keep(bundle, "pytorch", "fp32", 1.0)
    assert list_measured(bundle, batch=4) == [("onnxruntime", "int8"), ("openvino", "int8")]
    assert list_measured(bundle, batch=2) == [("openvino", "int8")]
    assert list_measured(bundle)[0] == ("pytorch", "fp32")


def test_engines_choose_their_precision_themselves(bundle):
    place = describe_place()
    keep_measurement(
        Measurement(bundle.key, "a plan", "tensorrt", "int8", 1, 1.0, True, "11.0", place)
    )
    assert rank(bundle)[0] == RankedRuntime("tensorrt", "auto", measured=True)


@pytest.mark.parametrize(
    "damage", [{"milliseconds": 0}, {"milliseconds": "fast"}, {"batch": 0}, {"batch": None}]
)
def test_a_damaged_measurement_is_none(bundle, tmp_path, monkeypatch, damage):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    keep(bundle, "openvino", "int8", 1.0)
    keep(bundle, "onnxruntime", "int8", 2.0)
    (file,) = (f for f in tmp_path.rglob("*.json") if '"openvino"' in f.read_text())
    file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    assert list_measured(bundle) == [("onnxruntime", "int8")]


def test_every_runtime_runs_graphs_or_engines():
    assert set(PACKAGES) < set(RUNTIMES)
    engines = {name for name in RUNTIMES if not runs_graphs(name)}
    assert engines == {"tensorrt", "tensorrt-rtx"}


def test_a_measured_opening_that_fails_is_passed_over(small_bundle, caplog):
    """Its graph is not there any more, say: the same runtime's own choice opens."""
    keep(small_bundle, "openvino", "int8", 1.0)
    with caplog.at_level("INFO", "relo_edge"), open_runtime(small_bundle) as runtime:
        assert (runtime.name, runtime.precision != "int8") == ("openvino", True)
    assert "measured fastest" not in caplog.text
