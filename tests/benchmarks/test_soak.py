"""A short soak passes, and what goes wrong in one is seen."""

from dataclasses import replace

from clips import StillRuntime

from relo_edge.benchmarks import soak as module
from relo_edge.benchmarks.soak import DEATHS, Holdings, soak


def test_a_short_soak(monkeypatch):
    monkeypatch.setattr(module, "CAMERA", "synthetic:size=128x96,fps=60")
    monkeypatch.setattr(module, "SEGMENT_SECONDS", 99.0)
    result = soak(StillRuntime(batch=3), 3.0)
    # In seconds memory has not settled; minutes are for the script.
    settled = replace(result, memory_growth=0.0)
    assert settled.passed, result.describe()
    assert result.reconnects == len(DEATHS)
    assert result.recordings >= 1
    assert result.targets >= 1
    assert result.frames > 5
    assert result.describe().startswith(("passed", "FAILED"))
    for wrong in (
        {"unplayable": 1},
        {"order_broken": 1},
        {"memory_growth": 0.03},
        {"reconnects": len(DEATHS) - 1},
        {"after": replace(result.after, threads=result.before.threads + 1)},
        {"after": replace(result.after, files=result.before.files + 1)},
    ):
        assert not replace(settled, **wrong).passed


def test_growth_is_between_the_warm_up_and_the_end():
    steady = [(moment / 10, 1000 + 50 * (moment < 20)) for moment in range(100)]
    assert module.measure_growth(steady, 10.0) == 0
    leaking = [(moment, 1000 + 10 * moment) for moment in range(100)]
    assert module.measure_growth(leaking, 100.0) > module.GROWTH


def test_a_file_left_open_is_counted(tmp_path):
    before = Holdings.count()
    with (tmp_path / "x").open("w"):
        assert Holdings.count().files == before.files + 1
