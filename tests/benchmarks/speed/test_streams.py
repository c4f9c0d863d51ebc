"""Streams on one runtime beside as many processes: small here, with real processes."""

import json
from dataclasses import replace

import pytest
from verbs import run_verb

from relo_edge.benchmarks.speed.streams import StreamsRequest, StreamsResult, bench_streams
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.pipeline.benchmarking import run_bench


@pytest.mark.slow
def test_both_ways_are_timed_in_turns(small_bundle):
    request = StreamsRequest(str(small_bundle.path), (2,), "onnxruntime", "fp32", 2)
    result = bench_streams(replace(request, seconds=0.3, turns=2))
    together, apart = result.rows
    assert [row.way for row in result.rows] == ["one runtime", "processes"]
    assert (together.lanes, together.threads, apart.lanes, apart.threads) == (2, 2, 1, 1)
    for row in result.rows:
        assert (row.streams, row.runtime, row.precision) == (2, "onnxruntime", "fp32")
        assert row.fps == pytest.approx(2 * row.fps_per_stream)
        assert 0 < row.p50_ms <= row.p99_ms
        assert row.memory_mb > 50
        assert row.cpu_ms > 0
    assert apart.ratio == 1
    assert together.ratio_quartiles[0] <= together.ratio <= together.ratio_quartiles[1]
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["rows"][0]["streams"] == 2
    assert plain["environment"]["cores"] >= 1
    head, *_ = result.describe().splitlines()
    assert head.split()[:2] == ["streams", "way"]


def test_a_busy_machine_is_told(small_bundle):
    result = StreamsResult({}, [], ())
    assert result.to_dict()["trusted"]
    assert not replace(result, doubts=("busy",)).to_dict()["trusted"]


@pytest.mark.parametrize("streams", [(), (0,), (1, 65)])
def test_numbers_of_streams_that_cannot_be_are_refused(streams):
    with pytest.raises(InputError, match="--streams: found .*, expected numbers from 1 to 64"):
        StreamsRequest("demo", streams)


def test_what_has_no_meaning_for_streams_is_refused(capsys):
    for words, reason in (
        (["--streams", "1,x"], "--streams: found '1,x', expected whole numbers such as 1,2,4,8"),
        (["--streams", "1", "--batch", "2"], "--batch is not for --streams"),
        (["--streams", "1", "--clip", "x"], "--clip is not for --streams"),
        (["--streams", "1", "--runtime", "a", "--runtime", "b"], "a second --runtime is not for"),
    ):
        code, _, err = run_verb(capsys, "bench", "demo", *words)
        assert code == 2
        assert reason in err


@pytest.mark.slow
def test_a_process_that_does_not_open_its_runtime_says_why(small_bundle):
    with pytest.raises(RuntimeUnavailable, match="a process of the benchmark ended: found .*fp7"):
        run_bench(small_bundle.path, ["onnxruntime:fp7"], streams=[1])
