"""A short soak passes, and what goes wrong in one is seen."""

import random
import time
from dataclasses import replace

import pytest
from clips import StillRuntime, write_video

from relo_edge.benchmarks.soak import log as soak_log
from relo_edge.benchmarks.soak import loop as soak_loop
from relo_edge.benchmarks.soak import sources as soak_sources
from relo_edge.benchmarks.soak.log import FAILURES, GROWTH, ProcessUse, SoakLog, measure_growth
from relo_edge.benchmarks.soak.run import draw_table, soak


def check_verdict(result):
    """In seconds memory has not settled; minutes are for the script."""
    settled = replace(result, memory_growth=0.0)
    assert settled.passed, result.describe()
    assert result.reconnects == len(FAILURES)
    for wrong in (
        {"unplayable": 1},
        {"order_broken": 1},
        {"recordings": 0},
        {"memory_growth": 0.03},
        {"reconnects": len(FAILURES) - 1},
        {"after": replace(result.after, threads=result.before.threads + 1)},
        {"after": replace(result.after, files=result.before.files + 1)},
    ):
        assert not replace(settled, **wrong).passed
    assert f"frames         {result.frames}" in result.describe()
    failed = replace(settled, unplayable=1)
    assert draw_table([settled, settled]).endswith("\nPASSED")
    table = draw_table([settled, failed])
    assert table.endswith(f"\nFAILED: {result.kind}")
    assert [line.split() for line in table.splitlines() if "unplayable" in line] == [
        ["unplayable", "0", "1"]
    ]


@pytest.mark.slow
def test_a_short_soak_of_the_loop(monkeypatch):
    monkeypatch.setattr(soak_log, "CAMERA", "synthetic:size=128x96,fps=60")
    monkeypatch.setattr(soak_loop, "SEGMENT_SECONDS", 99.0)
    result = soak(StillRuntime(batch=3), 3.0)
    check_verdict(result)
    assert result.added >= 1
    assert result.frames > 5
    assert result.more["dropped"] >= 0


@pytest.mark.slow
def test_a_short_soak_of_the_wall(monkeypatch):
    monkeypatch.setattr(soak_sources, "CHANGING", 0.3)
    close, at_the_end = soak_sources.WallSoak.close, []
    monkeypatch.setattr(
        soak_sources.WallSoak, "close", lambda wall: (at_the_end.extend(wall._viewers), close(wall))
    )
    result = soak(StillRuntime(batch=soak_sources.WALL_TARGETS), 14.0, "wall")
    check_verdict(result)
    assert result.added >= 3
    assert result.more["sources_gone"] >= 1
    assert sorted(at_the_end) == sorted(soak_sources.NAMES), "memory is compared with all there"
    assert result.more["pictures"] > 20


@pytest.mark.slow
def test_a_short_soak_of_the_page():
    result = soak(StillRuntime(batch=3), 12.0, "page")
    check_verdict(result)
    assert result.added >= 3
    assert result.removed >= 1
    assert result.recordings >= 2
    assert result.more["pictures"] > 20
    assert result.more["page_ms"] > 0


def test_growth_is_between_the_warm_up_and_the_end():
    steady = [(moment / 10, 1000 + 50 * (moment < 20)) for moment in range(100)]
    assert measure_growth(steady, 10.0) == 0
    leaking = [(moment, 1000 + 10 * moment) for moment in range(100)]
    assert measure_growth(leaking, 100.0) > GROWTH


@pytest.mark.parametrize(
    ("share", "measuring"), [(0.1, False), (0.25, True), (0.5, False), (0.95, True), (1.1, True)]
)
def test_memory_counts_after_the_warm_up_and_at_the_end(tmp_path, share, measuring):
    began = time.monotonic() - 1000 * share
    assert SoakLog(1000.0, tmp_path, random.Random(0), began=began).measuring is measuring


def test_a_file_left_open_is_counted(tmp_path):
    before = ProcessUse.count()
    with (tmp_path / "x").open("w"):
        assert ProcessUse.count().files == before.files + 1


@pytest.mark.parametrize(
    ("rows", "numbers", "unplayable", "order_broken"),
    [
        ([0, 0, 3, 5], None, 0, 0),
        ([0, 3, 5], [0, 3, 5], 0, 0),
        ([0, 5, 3], None, 0, 1),
        ([0, 4], [0, 3, 5], 1, 0),  # boxes of a frame that was not recorded
        ([0, 3], [0, 3, 6], 1, 0),  # a frame short
        (None, None, 1, 0),  # no video
    ],
)
def test_a_recording_that_is_not_whole_is_seen(tmp_path, rows, numbers, unplayable, order_broken):
    video, boxes = tmp_path / "a.mp4", tmp_path / "a.csv"
    if rows is None:
        video.write_bytes(b"no video")
    else:
        write_video(video, frames=6)
    boxes.write_text("\n".join(["frame", *map(str, rows or [])]))
    log = SoakLog(1.0, tmp_path, random.Random(0))
    log.check_recording(video, boxes, numbers)
    found = log.recordings, log.unplayable, log.order_broken
    assert found == (1, unplayable, order_broken)
