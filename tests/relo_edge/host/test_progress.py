"""Progress goes to stderr: a bar for people, one line for logs, nothing on stdout."""

import os
import pty
import re
import subprocess
import sys

import pytest

from relo_edge.host import progress
from relo_edge.host.progress import count_stages, show_progress

SCRIPT = """
from relo_edge.host.progress import show_progress
with show_progress("tracking [bold]clip", {total}) as advance:
    for _ in range(5):
        advance()
"""


def test_log_gets_one_closing_line(capsys):
    with show_progress("tracking clip", 5) as advance:
        for _ in range(5):
            advance()
        assert capsys.readouterr().err == ""
    captured = capsys.readouterr()
    assert re.fullmatch(r"tracking clip: 5 frames, [\d.]+ FPS\n", captured.err)
    assert captured.out == ""


@pytest.mark.parametrize(
    ("total", "line"),
    [
        (60, "recording: 8 of 60 frames, 0.5 FPS, about 104 s left"),
        (None, "recording: 8 frames, 0.5 FPS"),
    ],
)
def test_log_is_told_of_long_work_now_and_then(capsys, monkeypatch, total, line):
    seconds = [0.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: seconds[0])
    with show_progress("recording", total) as advance:
        for _ in range(10):
            seconds[0] += 2
            advance()
        assert capsys.readouterr().err.splitlines() == [line]


@pytest.mark.parametrize(
    ("total", "numbers"), [(2, ["(1 of 2)", "(2 of 2)"]), (None, ["(stage 1)", "(stage 2)"])]
)
def test_stages_are_numbered(capsys, total, numbers):
    with count_stages(total):
        for kept in (True, False):
            with show_progress("recording", 0, kept=kept):
                pass
    with show_progress("tracking clip", 0):
        pass
    titles = [line.split(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert titles == [*(f"recording {number}" for number in numbers), "tracking clip"]


def test_unit_names_the_rate(capsys):
    with show_progress("calibrating", unit="clips") as advance:
        advance()
    assert re.fullmatch(r"calibrating: 1 clips, [\d.]+ clips/s\n", capsys.readouterr().err)


def test_nothing_to_do_has_no_rate(capsys):
    with show_progress("recording", 0, kept=True):
        pass
    assert capsys.readouterr().err == "recording: already there\n"
    with show_progress("tracking clip", 0):
        pass
    assert capsys.readouterr().err == "tracking clip: 0 frames, 0.0 FPS\n"


def test_failure_leaves_the_line_to_the_error(capsys):
    with pytest.raises(ZeroDivisionError), show_progress("tracking clip"):
        _ = 1 / 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("total", "shown"), [(5, "5/5"), (None, "5/?")])
def test_terminal_gets_a_bar(total, shown):
    controller, terminal = pty.openpty()
    child = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(total=total)],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        check=True,
        timeout=30,
    )
    os.close(terminal)
    drawn = os.read(controller, 65536).decode()
    os.close(controller)
    assert "tracking [bold]clip" in drawn
    assert shown in drawn
    assert child.stdout == b""
