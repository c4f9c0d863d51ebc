"""What every command line tool does: completion, quiet and verbose runs, short help, defaults."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from verbs import run_verb

from relo_edge import cli
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.verbs.shared import move_global_options

VERBS = [command.name or command.callback.__name__ for command in cli.app.registered_commands]
TRACK = ("track", "demo", "--runtime", "onnxruntime")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_short_help_and_json(verb, capsys):
    code, out, _ = run_verb(capsys, verb, "-h")
    assert code == 0
    assert "--json" in out
    assert "-h, --help" in out


@pytest.mark.slow
def test_completion_names_verbs_and_options():
    completed = {}
    for typed in ("relo-edge tra", "relo-edge track --recov"):
        environment = {
            **os.environ,
            "_RELO_EDGE_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(typed.split()) - 1),
        }
        code = "from relo_edge.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        completed[typed] = done.stdout.split()
    assert completed == {
        "relo-edge tra": ["track", "train"],
        "relo-edge track --recov": ["--recover"],
    }


@pytest.mark.slow
def test_track_demo_needs_nothing_else(capsys):
    code, out, err = run_verb(capsys, "track", "demo", "--json")
    summary = json.loads(out)
    assert code == 0
    assert (summary["frames"], summary["bundle"], summary["lost_frames"]) == (90, "demo", 0)
    assert "runtime: " in err
    assert "passed over" not in err


@pytest.mark.slow
def test_the_demo_source_takes_a_later_frame_and_other_targets(capsys, tmp_path):
    file = tmp_path / "a.csv"
    words = ["--start", "80", "--boxes", file]
    assert run_verb(capsys, *TRACK, *words)[0] == 0
    assert [line.split(",")[0] for line in file.read_text().splitlines()[1:3]] == ["80", "81"]
    assert run_verb(capsys, *TRACK, "--init", "box=100,100,60,60", *words)[0] == 0
    assert file.read_text().splitlines()[1].startswith("80,box,100.0")


def test_what_is_called_demo_on_disk_is_that(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("demo").mkdir()
    code, _, err = run_verb(capsys, "track", "demo", "--bundle", "demo", "--init", "1,2,3,4")
    assert code == 2
    assert "image" in err


@pytest.mark.slow
def test_quiet_leaves_the_result_alone(capsys):
    code, out, err = run_verb(capsys, "--quiet", *TRACK)
    assert (code, err) == (0, "")
    assert "90 frames" in out


def test_quiet_still_tells_an_error(capsys):
    code, out, err = run_verb(capsys, "track", "none.mp4", "--bundle", "demo", "--quiet")
    assert (code, out) == (2, "")
    assert err.startswith("relo-edge: ")


@pytest.mark.slow
def test_verbose_tells_what_was_passed_over(capsys):
    _, _, err = run_verb(capsys, "track", "demo", "--verbose")
    assert "passed over" in err


def test_quiet_and_verbose_exclude_each_other(capsys):
    code, _, err = run_verb(capsys, *TRACK, "-q", "-v")
    assert code == 2
    assert "--quiet and --verbose exclude each other" in err


def test_global_options_may_stand_anywhere_but_behind_two_dashes():
    assert move_global_options(["track", "a", "-q"]) == ["-q", "track", "a"]
    assert move_global_options(["track", "--", "-q"]) == ["track", "--", "-q"]
    assert move_global_options(["-v", "track"]) == ["-v", "track"]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["doctor", "inspect"])
def test_no_color_is_obeyed(verb, small_bundle):
    words = [verb, str(small_bundle.path)] if verb == "inspect" else [verb]
    done = subprocess.run(
        [sys.executable, "-m", "relo_edge", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"},
    )
    # NO_COLOR is about colours: bold and the like may stay.
    assert not re.search(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d[;m]", done.stdout)


def test_a_camera_that_is_not_there_is_one_line(capsys):
    code, out, err = run_verb(capsys, "track", "97", "--bundle", "demo", "--init", "1,2,30,40")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert "camera 97" in err


@pytest.mark.slow
def test_export_names_its_bundle_after_the_variant(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("export", "--checkpoint", find_demo_checkpoint(), "--json")
    assert run_verb(capsys, *words)[0] == 0
    assert (tmp_path / "relo-demo" / "manifest.json").exists()
    code, _, err = run_verb(capsys, *words)
    assert code == 2
    assert "--force" in err


def test_report_has_a_default_name_and_json(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = Path(__file__).parents[2] / "benchmarks" / "results"
    file = next(bench.glob("*demo.json"))
    code, out, _ = run_verb(capsys, "report", "--bench", file, "--json")
    assert (code, json.loads(out)) == (0, {"output": "report.html"})
    assert (tmp_path / "report.html").exists()
