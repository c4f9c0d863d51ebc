"""Verbs with few frames, turns and textures, where they have to run and not to prove anything."""

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


def shorten(monkeypatch, *verbs):
    """In this process."""
    for verb in verbs:
        for path, value in LIMITS[verb].items():
            monkeypatch.setattr(path, value)


def write_prelude(*verbs):
    """The same as code, to be run first in a process of its own."""
    lines = []
    for verb in verbs:
        for path, value in LIMITS.get(verb, {}).items():
            lines.append(f"import {path.rpartition('.')[0]}; {path} = {value}")
    return "\n".join([*lines, ""])
