"""The verbs' manners: results on stdout, one line per error, the right exit code."""

import hashlib
import json
import shutil
import subprocess
import sys

import pytest
from clips import write_video
from sidecars_on_disk import PLAN, write_engine
from verbs import run_verb

import relo_edge
from relo_edge.bundle import open_bundle
from relo_edge.runtimes.tensorrt.trust import record_plan


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["inspect", "nowhere"], "nothing there"),
        (["export", "--checkpoint", "nowhere", "-o", "out"], "nowhere"),
        (["export", "--variant", "x256", "--checkpoint", "nowhere", "-o", "out"], "x256"),
        (["parity", "nowhere"], "nothing there"),
        (["bench", "nowhere"], "nothing there"),
        (["fetch", "demo"], "expected t256 | b256 | l256"),
        (["track"], "Missing argument"),
        (["inspect", "--nonsense"], "No such option"),
        (["nonsense"], "No such command"),
        (["version"], "No such command 'version'. Did you mean --version?; see `relo-edge --help`"),
        (["quantize", "demo", "--int8", "--fp16"], "one precision at a time: found --int8 and --f"),
        (["eval", "LaSOT"], "found LaSOT, expected TRACKER DATASET"),
        (["bench", "nowhere", "--threads", "many"], "--help"),
    ],
)
def test_wrong_use_is_one_line_and_exit_2(capsys, tmp_path, monkeypatch, words, word):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_verb(capsys, *words)
    assert code == 2
    assert not out
    assert len(err.splitlines()) == 1
    assert err.startswith("relo-edge: ")
    assert word in err
    assert not list(tmp_path.iterdir())


def test_a_bare_call_shows_the_help(capsys):
    code, _, err = run_verb(capsys)
    assert code == 2
    assert "Usage:" in err
    assert "export" in err


def test_a_file_that_is_no_checkpoint_is_exit_1(capsys, tmp_path):
    (tmp_path / "x").write_text("hello")
    words = ["export", "--checkpoint", tmp_path / "x", "-o", tmp_path / "out"]
    code, _, err = run_verb(capsys, *words)
    assert code == 1
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_export_then_inspect(capsys, tmp_path, demo_bundle):
    checkpoint = demo_bundle.manifest["checkpoint"]["path"]
    words = ["export", "--variant", "demo", "--checkpoint", checkpoint, "-o", tmp_path / "b"]
    code, out, _ = run_verb(capsys, *words)
    assert code == 0
    assert "parity of fp32 with pytorch" in out
    code, out, _ = run_verb(capsys, "inspect", tmp_path / "b", "--json")
    found = json.loads(out)
    assert code == 0
    assert found["sound"] is True
    assert found["manifest"]["variant"]["name"] == "demo"


def test_inspect_finds_damage_and_stale_engines(capsys, tmp_path, small_bundle):
    shutil.copytree(small_bundle.path, tmp_path / "b")
    (tmp_path / "b" / "template.onnx").write_bytes(b"x")
    copied = open_bundle(tmp_path / "b")
    record_plan(hashlib.sha256(PLAN).hexdigest())
    write_engine(copied, "a")
    write_engine(copied, "b", graph_sha256="0" * 64)
    write_engine(copied, "c", batch="many")
    code, out, _ = run_verb(capsys, "inspect", tmp_path / "b")
    assert code == 1
    assert "DAMAGED" in out
    assert "found 1 bytes" in out
    assert ["a.json" in line for line in out.splitlines() if line.endswith(", ok")] == [True]
    assert "b.json: fp32, TensorRT 1.4.0.76, ahead of time, STALE" in out
    assert "c.json cannot be read" in out


def test_the_version_is_the_packages(capsys):
    for option in ("--version", "-V"):
        assert run_verb(capsys, option) == (0, f"{relo_edge.__version__}\n", "")


def run_shell(line):
    """A new process whose streams the shell has redirected."""
    command = f"{sys.executable} -m relo_edge {line}"
    return subprocess.run(command, shell=True, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("words", ["--version", "export --help", "fetch --help"])
def test_a_result_that_cannot_be_written_is_one_line(words):
    ended = run_shell(f"{words} > /dev/full")
    assert ended.returncode == 1
    assert ended.stderr == "relo-edge: [Errno 28] No space left on device\n"


def test_a_reader_that_went_away_is_no_traceback():
    assert not run_shell("--version | true").stderr


@pytest.mark.slow
def test_closed_streams_are_no_obstacle(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=2)
    words = f"track {clip} --bundle nowhere --init 1,2,30,40"
    assert run_shell(f"{words} <&- >&- 2>&-").returncode == 2
