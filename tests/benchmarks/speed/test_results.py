"""The bench table: columns apart at any number, and doubts where they belong."""

from dataclasses import replace

from relo_edge.benchmarks.speed.results import BenchResult, BenchRow, Proof

ROW = BenchRow(
    runtime="pytorch",
    precision="fp32",
    device="cpu",
    batch=1,
    threads=2,
    p50_ms=150.0,
    p90_ms=160.0,
    p99_ms=12345.6,
    min_ms=140.0,
    jitter_ms=1.0,
    fps=6.7,
    stages_ms={"network": 140.0},
    overhead_ms=10.0,
    ratio_to_reference=1.0,
    ratio_quartiles=(1.0, 1.0),
    role="reference",
    parity=None,
    end_to_end_fps=None,
    start_up_ms=None,
    first_frame_ms=None,
    peak_memory_mb=None,
    joules_per_frame=None,
    times_ms=[150.0],
)
FAST = replace(
    ROW,
    runtime="onnxruntime-tensorrt",
    role="candidate",
    ratio_to_reference=147.25,
    ratio_quartiles=(140.5, 150.25),
    parity=Proof(True, True, 0.998, 1.0, ()),
)


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
