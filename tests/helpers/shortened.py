"""Verbs with few frames, turns and textures, where they have to run and not to prove anything."""

from relo_edge.benchmarks.speed.startup import StartUp

CLIPS = {
    "relo_edge.benchmarks.parity.rollout.FRAMES": 8,
    "relo_edge.benchmarks.parity.rollout.SEEDS": range(1),
}
LIMITS = {
    "parity": CLIPS,
    "bench": {
        **CLIPS,
        "relo_edge.benchmarks.speed.latency.TURNS": 2,
        # The suite itself keeps the machine busy.
        "relo_edge.benchmarks.speed.load.LONGEST_WAIT": 0.0,
    },
    "quantize": {"relo_edge.calibration.quantize.QUICK_FRAMES": 20},
    "train": {"relo_edge.training.run.ATLAS": 6, "relo_edge.training.run.TRIAL_CLIPS": 1},
}

START = StartUp(start_up_ms=1.0, first_frame_ms=1.0, peak_memory_mb=50.0)


def shorten(monkeypatch, *verbs):
    """In this process."""
    for verb in verbs:
        for path, value in LIMITS[verb].items():
            monkeypatch.setattr(path, value)


def start_at_once(monkeypatch):
    """`bench` without its processes: each loads all libraries anew, for three figures."""
    monkeypatch.setattr("relo_edge.benchmarks.speed.bench.measure_start", lambda _: START)


def write_prelude(*verbs, starts=True):
    """The same as code, to be run first in a process of its own."""
    lines = []
    if not starts:
        lines.append("from relo_edge.benchmarks.speed import bench")
        lines.append("from relo_edge.benchmarks.speed.startup import StartUp")
        lines.append(f"bench.measure_start = lambda _: {START}")
    for verb in verbs:
        for path, value in LIMITS.get(verb, {}).items():
            lines.append(f"import {path.rpartition('.')[0]}; {path} = {value}")
    return "\n".join([*lines, ""])
