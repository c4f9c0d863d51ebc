"""The bench table: columns apart at any number, and doubts where they belong."""

from dataclasses import replace

from bench_rows import FAST, ROW

from relo_edge.benchmarks.speed.results import BenchResult


def test_columns_stay_apart_however_large_the_ratio():
    head, first, second = BenchResult({}, [ROW, FAST]).describe().splitlines()[:3]
    assert second.split()[:7] == [
        "onnxruntime-tensorrt",
        "fp32",
        "1",
        "150.0",
        "160.0",
        "12345.6",
        "6.7",
    ]
    assert "  147.25 x (140.50-150.25)  same tracker (IoU 0.998)" in second
    end = second.index("147.25 x (140.50-150.25)") + len("147.25 x (140.50-150.25)")
    assert head[:end].endswith("ratio")
    assert first[:end].endswith("1.00 x (1.00-1.00)")


def test_a_doubtful_ratio_is_marked_and_explained():
    doubted = replace(FAST, doubts=("other processes used 1.7 of 2 cores",))
    result = BenchResult({}, [ROW, doubted])
    assert not result.trusted
    assert result.passed
    text = result.describe()
    assert "147.25 x (140.50-150.25) ?" in text
    assert "this machine is busy: ratios are not to be trusted (other processes used 1.7" in text
    plain = result.to_dict()
    assert plain["trusted"] is False
    assert plain["rows"][1]["doubts"] == ("other processes used 1.7 of 2 cores",)


def test_a_quiet_machine_is_not_mentioned():
    result = BenchResult({}, [ROW, FAST])
    assert result.trusted
    assert "busy" not in result.describe()
    assert "?" not in result.describe()
