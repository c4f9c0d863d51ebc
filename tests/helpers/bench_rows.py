"""Rows of a benchmark: the reference and a candidate."""

from dataclasses import replace

from relo_edge.benchmarks.speed.results import BenchRow, Proof

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
