"""What `bench` keeps on this machine, and what `auto` makes of it."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest
from bench_rows import FAST, ROW

from relo_edge.benchmarks.speed import bench
from relo_edge.benchmarks.speed.bench import BenchRequest
from relo_edge.benchmarks.speed.keeping import keep_times
from relo_edge.benchmarks.speed.results import BenchResult, Proof
from relo_edge.host.measured import list_measurements
from relo_edge.runtime import open_runtime

CPU = replace(FAST, runtime="onnxruntime", p50_ms=9.0)
FASTER = replace(CPU, runtime="openvino", p50_ms=3.0)
OTHER = replace(FASTER, precision="bf16", p50_ms=1.0, parity=Proof(False, True, 0.4, 0.5, ("x",)))


def list_kept(bundle):
    return [
        (m.runtime, m.precision, m.milliseconds, m.passed) for m in list_measurements(bundle.key)
    ]


@pytest.mark.slow
def test_rows_that_were_judged_are_kept_and_auto_follows(small_bundle, caplog):
    peer = replace(ROW, runtime="mil", role="peer", parity=None)
    compiled = replace(FAST, runtime="pytorch-compile")
    engine = replace(FAST, runtime="tensorrt")
    unproven = replace(FASTER, precision="int8", parity=None)
    rows = [ROW, CPU, FASTER, OTHER, peer, compiled, engine, unproven]
    with caplog.at_level(logging.INFO, "relo_edge"):
        keep_times(small_bundle, BenchResult({}, rows))
        assert list_kept(small_bundle) == [
            ("openvino", "bf16", 1.0, False),
            ("openvino", "fp32", 3.0, True),
            ("onnxruntime", "fp32", 9.0, True),
            ("pytorch", "fp32", 150.0, True),
        ]
        assert "kept: of these, `auto` takes openvino in fp32" in caplog.text
        with open_runtime(small_bundle) as runtime:
            assert (runtime.name, runtime.precision) == ("openvino", "fp32")
    assert "runtime: openvino in fp32 on cpu, measured fastest on this machine" in caplog.text


def test_a_later_run_replaces_its_times(small_bundle):
    keep_times(small_bundle, BenchResult({}, [CPU, FASTER]))
    keep_times(small_bundle, BenchResult({}, [replace(CPU, p50_ms=2.0), FASTER]))
    assert [kept[:3] for kept in list_kept(small_bundle)] == [
        ("onnxruntime", "fp32", 2.0),
        ("openvino", "fp32", 3.0),
    ]


def test_times_of_a_busy_machine_are_not_kept(small_bundle, caplog):
    doubted = replace(ROW, doubts=("other processes used 1.7 of 2 cores",))
    with caplog.at_level(logging.INFO, "relo_edge"):
        keep_times(small_bundle, BenchResult({}, [doubted, CPU]))
    assert list_kept(small_bundle) == []
    assert "not kept for `auto`: this machine is busy" in caplog.text


def test_where_nothing_can_be_kept_the_times_are_told_all_the_same(
    small_bundle, tmp_path, monkeypatch, caplog
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    keep_times(small_bundle, BenchResult({}, [CPU]))
    assert "not kept for `auto`: state folder" in caplog.text


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({}, True),
        ({"every_precision": True, "batches": (1, 4)}, True),
        ({"runtimes": ["openvino:int8"]}, False),
        ({"threads": 1}, False),
        ({"checkpoint": "other.pth"}, False),
    ],
)
def test_only_a_run_of_all_that_opens_is_kept(small_bundle, monkeypatch, asked, kept):
    result, calls = BenchResult({}, [ROW, CPU]), []
    for name in ("_open_contenders", "take_turns", "wait_until_quiet", "_prove", "_measure_starts"):
        monkeypatch.setattr(bench, name, lambda *_: [])
    monkeypatch.setattr(bench, "read_scene", lambda _: SimpleNamespace())
    monkeypatch.setattr(bench, "make_rows", lambda *_: result)
    monkeypatch.setattr(bench, "keep_times", lambda *given: calls.append(given))
    bench.run_bench(BenchRequest(str(small_bundle.path), **asked))
    assert [(b.key, r.rows) for b, r in calls] == [(small_bundle.key, result.rows)] * kept
