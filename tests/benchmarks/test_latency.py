"""The benchmark's bookkeeping; no test here depends on how fast this machine is."""

import json

import pytest
from verbs import run_verb

from relo_edge.benchmarks import latency
from relo_edge.benchmarks.latency import bench_runtimes, count_turns
from relo_edge.runtime import open_runtime


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(latency, "TURNS", 2)
    monkeypatch.setattr(latency, "FRAMES", 2)
    monkeypatch.setattr(latency, "SIZE", (320, 240))


def test_rows_are_ratios_of_one_run(demo_bundle):
    runtimes = [open_runtime(demo_bundle.path, name) for name in ("pytorch", "onnxruntime")]
    calls = []
    result = bench_runtimes(runtimes, lambda: calls.append(1))
    assert len(calls) == count_turns(2) == 4
    reference, other = result.rows
    assert reference.ratio_to_reference == pytest.approx(1)
    expected = reference.stages_ms["network"] / other.stages_ms["network"]
    assert other.ratio_to_reference == pytest.approx(expected)
    for row in result.rows:
        assert 0 < row.p50_ms <= row.p90_ms <= row.p99_ms
        assert row.fps == pytest.approx(1e3 / row.p50_ms)
        assert row.stages_ms["rest"] > 0
    assert "pytorch" in result.describe()


def test_without_the_reference_there_is_no_ratio(demo_bundle):
    result = bench_runtimes([open_runtime(demo_bundle.path, "onnxruntime")])
    assert result.rows[0].ratio_to_reference is None


def test_the_verb_prints_the_promised_json(demo_bundle, capsys):
    words = ["--runtime", "pytorch", "--runtime", "openvino:fp32", "--json"]
    code, out, _ = run_verb(capsys, "bench", demo_bundle.path, *words)
    result = json.loads(out)
    assert code == 0
    assert result["environment"]["cores"] >= 1
    assert [row["runtime"] for row in result["rows"]] == ["pytorch", "openvino"]
    assert {"p50_ms", "p90_ms", "p99_ms", "fps", "stages_ms", "batch"} <= set(result["rows"][0])


def test_all_that_open_are_timed_and_the_rest_is_named(demo_bundle, capsys):
    code, out, err = run_verb(capsys, "bench", demo_bundle.path)
    assert code == 0
    assert all(name in out for name in ("pytorch", "onnxruntime", "openvino"))
    assert "left out onnxruntime-tensorrt" in err
