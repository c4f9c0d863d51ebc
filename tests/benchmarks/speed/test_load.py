"""A busy machine is recognised, waited for, and said in every place where a ratio is shown."""

import os

import pytest

from relo_edge.benchmarks.speed import load
from relo_edge.benchmarks.speed.load import LoadMeter, MachineLoad, wait_until_quiet

QUIET = MachineLoad(cores=2, other_cores=0.1, steal=0.0, switches=20.0, load=0.5)


def test_a_quiet_machine_leaves_no_doubt():
    assert QUIET.doubts == ()
    assert MachineLoad(2, None, None, None, None).doubts == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"other_cores": 1.7}, "other processes used 1.7 of 2 cores"),
        ({"steal": 0.08}, "the hypervisor took 8% of the time"),
        ({"switches": 900.0}, "900 involuntary context switches a second"),
    ],
)
def test_each_kind_of_load_is_named(changes, words):
    found = MachineLoad(**{**vars(QUIET), **changes})
    assert found.doubts == (words,)


STAT = """cpu  900 0 0 900 0 0 0 0 0 0
cpu0 {user} 0 0 {idle} 0 0 0 {steal} 0 0
cpu1 0 0 0 500 0 0 0 0 0 0
intr 1
"""


def fake_machine(monkeypatch, *moments):
    """A core of one's own, a clock, and what /proc/stat says at each moment."""
    ticks = os.sysconf("SC_CLK_TCK")
    texts = iter([STAT.format(**{k: v * ticks for k, v in m.items()}) for m in moments])
    monkeypatch.setattr(load, "read_text", lambda _: next(texts))
    monkeypatch.setattr(load.os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(load, "count_cores", lambda: 1)
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(load.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(load.os, "times", lambda: (0.0,) * 5)
    monkeypatch.setattr(load, "_count_switches", lambda: 0)


def test_only_the_cores_that_may_be_used_count(monkeypatch):
    fake_machine(
        monkeypatch,
        {"user": 5, "idle": 5, "steal": 0},
        {"user": 9, "idle": 10, "steal": 1},
    )
    found = LoadMeter().read()
    assert found.other_cores == pytest.approx(0.4)
    assert found.steal == pytest.approx(0.1)


def test_what_its_own_children_used_is_no_other_s(monkeypatch):
    """`bench --streams` computes in children alone."""
    fake_machine(
        monkeypatch,
        {"user": 0, "idle": 0, "steal": 0},
        {"user": 9, "idle": 1, "steal": 0},
    )
    times = iter([(0.0, 0.0, 0.0, 0.0, 0.0), (0.5, 0.5, 7.0, 0.5, 10.0)])
    monkeypatch.setattr(load.os, "times", lambda: next(times))
    assert LoadMeter().read().other_cores == pytest.approx(0.05)


def test_one_waits_until_the_others_are_done(monkeypatch, caplog):
    busy = [{"user": 10 * n, "idle": 0, "steal": 0} for n in (0, 1, 1, 2)]
    quiet = [{"user": 20, "idle": 10 * n, "steal": 0} for n in (0, 1)]
    fake_machine(monkeypatch, *busy, *quiet)
    slept = []
    caplog.set_level("INFO", "relo_edge")
    wait_until_quiet(slept.append)
    assert slept == [load.INTERVAL] * 3
    assert caplog.messages == ["waiting for a quieter machine: other processes used 1.0 of 1 cores"]


def test_one_does_not_wait_for_ever(monkeypatch):
    moments = [{"user": 10 * n, "idle": 0, "steal": 0} for n in range(50)]
    fake_machine(monkeypatch, *moments)
    slept = []
    wait_until_quiet(slept.append)
    assert sum(slept) == load.LONGEST_WAIT


def test_a_system_that_says_nothing_is_not_called_busy(monkeypatch):
    monkeypatch.setattr(load, "read_text", lambda _: "")
    monkeypatch.setattr(load, "_count_switches", lambda: None)
    found = LoadMeter().read()
    assert (found.other_cores, found.steal, found.switches) == (None, None, None)
    assert found.doubts == ()
