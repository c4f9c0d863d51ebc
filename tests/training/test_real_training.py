"""`train --data` from the command line: trained, resumed, ended and refused like any other run."""

import csv
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from children import wait_for_file
from layouts import write_coco, write_got10k, write_got10k_test, write_lasot, write_plain
from verbs import run_verb

from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.training import run

WORDS = ("--batch-clips", "2", "--threads", "1", "--json")


@pytest.fixture(autouse=True)
def small_runs(monkeypatch):
    monkeypatch.setattr(run, "ATLAS", 6)
    monkeypatch.setattr(run, "TRIAL_CLIPS", 1)


@pytest.fixture
def data(tmp_path):
    write_got10k(tmp_path / "GOT-10k" / "train", frames=6, cover=(8, 8, 0, 8, 8, 8))
    write_lasot(tmp_path / "LaSOT", "bear-3")
    write_coco(tmp_path / "coco")
    folders = (tmp_path / "GOT-10k" / "train", tmp_path / "LaSOT", tmp_path / "coco")
    return [word for folder in folders for word in ("--data", folder)]


def train(capsys, *words, trial=("--no-trial",)):
    code, out, err = run_verb(capsys, "train", *words, *WORDS, *trial)
    return code, json.loads(out) if out else None, err


@pytest.mark.slow
def test_both_stages_learn_from_real_clips(tmp_path, data, capsys):
    code, result, err = train(capsys, "warmup", "-o", tmp_path / "run", "--steps", "2", *data)
    assert code == 0, err
    assert (result["steps"], result["clips"]) == (2, 4)
    with (tmp_path / "run" / "warmup-log.csv").open() as file:
        assert all(float(row["loss"]) > 0 for row in csv.DictReader(file))
    start = tmp_path / "run" / "warmup-checkpoint.pt"
    words = ["reinforce", "--from", start, "-o", tmp_path / "run", "--steps", "1"]
    code, result, err = train(capsys, *words, *data, trial=())
    assert code == 0, err
    assert 0 <= result["trial"]["auc"] <= 1
    assert read_checkpoint(tmp_path / "run" / "reinforce-checkpoint.pt").variant.name == "demo"


@pytest.mark.slow
def test_no_textures_are_painted_where_no_clip_is_synthetic(tmp_path, data, capsys, monkeypatch):
    painted = []
    build = run.build_atlas
    monkeypatch.setattr(run, "build_atlas", lambda *rest: painted.append(rest) or build(*rest))
    words = ["warmup", "--from", make_start(tmp_path), "--steps", "1", *data]
    assert train(capsys, *words, "-o", tmp_path / "real")[0] == 0
    assert not painted
    assert train(capsys, *words, "-o", tmp_path / "mixed", "--synthetic", "0.5")[0] == 0
    assert len(painted) == 1


def make_start(tmp_path):
    from relo_edge.spec import VARIANTS
    from relo_edge.training.init_weights import build_fresh

    path = tmp_path / "start.pt"
    torch.save({"net": build_fresh(VARIANTS["demo"], 0).state_dict()}, path)
    return path


@pytest.mark.slow
def test_a_resumed_run_sees_what_an_unbroken_one_does(tmp_path, data, capsys, monkeypatch):
    monkeypatch.setattr("relo_edge.training.loop.anneal", lambda step, settings: 1.0)
    words = ["warmup", "--from", make_start(tmp_path), "--synthetic", "0.5", *data]
    assert train(capsys, *words, "-o", tmp_path / "whole", "--steps", "3")[0] == 0
    assert train(capsys, *words, "-o", tmp_path / "cut", "--steps", "1")[0] == 0
    assert train(capsys, *words, "-o", tmp_path / "cut", "--steps", "3")[0] == 0
    whole, cut = (
        torch.load(tmp_path / name / "warmup-checkpoint.pt")["net"] for name in ("whole", "cut")
    )
    for name, value in whole.items():
        assert torch.allclose(value, cut[name], atol=1e-5), name


@pytest.mark.slow
def test_a_run_goes_on_from_its_own_clips_only(tmp_path, data, capsys):
    words = ["warmup", "-o", tmp_path / "run", "--from", make_start(tmp_path), "--steps", "1"]
    assert train(capsys, *words, *data)[0] == 0
    code, _, err = train(capsys, *words, *data[:2])
    assert code == 1
    assert "found data ['train: 1 videos as got10k', 'LaSOT: 1 videos as lasot', 'coco" in err
    assert train(capsys, *words)[0] == 1
    code, _, err = train(capsys, *words, *data, "--synthetic", "0.5")
    assert (code, "found synthetic 0.0, expected synthetic 0.5" in err) == (1, True)
    write_lasot(tmp_path / "LaSOT", "bear-5")
    code, _, err = train(capsys, *words, *data)
    assert (code, "expected data ['train: 1 videos as got10k', 'LaSOT: 2" in err) == (1, True)


@pytest.mark.slow
def test_a_broken_picture_costs_a_line(tmp_path, data, capsys):
    picture = tmp_path / "coco" / "train2017" / "000000000001.jpg"
    picture.write_bytes(picture.read_bytes()[:-500])
    code, result, err = train(capsys, "warmup", "-o", tmp_path / "run", "--steps", "6", *data)
    assert (code, result["steps"]) == (0, 6)
    assert err.count(str(picture)) == 1
    assert "left out 1 pictures or videos, drawn" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "none"], "dataset 'none': found no such folder, expected a folder"),
        (["--data", "empty"], "dataset 'empty': found no layout that fits"),
        (["--data", "test"], "dataset 'test' as got10k: found first boxes only"),
        (["--data", "plain", "--synthetic", "1.5"], "--synthetic: found 1.5"),
        (["--data", "plain", "--synthetic", "0"], "--synthetic: found 0.0"),
        (["--data", "plain", "--synthetic", "nan"], "--synthetic: found nan"),
        (["--data", "plain", "--synthetic", "0.1"], "--synthetic: found 0 of 2 clips in a step"),
        (["--synthetic", "0.5"], "--synthetic: found no --data"),
        (["--data", "plain", "--textures", "a.mp4"], "found no synthetic clips to paint"),
        (["--data", "broken"], "nothing to learn from in broken: 1 videos as plain"),
    ],
)
def test_what_cannot_be_learned_from_is_said_in_a_line(
    words, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_got10k_test(tmp_path / "test")
    write_plain(tmp_path / "plain")
    for picture in write_plain(tmp_path / "broken", ["one"]).rglob("*.jpg"):
        picture.write_bytes(b"")
    code, _, err = train(capsys, "warmup", "-o", "x", *words)
    assert code in (1, 2)
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "x").exists()


LOGGED_SOON = """
import functools, sys
from relo_edge.cli import main
from relo_edge.training import recipes
recipes.LoopSettings = functools.partial(recipes.LoopSettings, log_every=2)
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("wish", [signal.SIGINT, signal.SIGTERM])
def test_a_wish_to_stop_saves_the_run_and_ends_its_readers(tmp_path, data, wish):
    folder = tmp_path / "run"
    words = ["train", "warmup", "-o", folder, "--batch-clips", "1", "--threads", "1", "--json"]
    command = [sys.executable, "-c", LOGGED_SOON, *words, *data]
    process = subprocess.Popen(
        [*map(str, command), "--steps", "1000000"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for_file(folder / "warmup-log.csv", process)
    # Ctrl-C in a terminal, and a service's end, reach the workers as well.
    os.killpg(process.pid, wish)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert not json.loads(out)["finished"]
    steps = torch.load(folder / "warmup-checkpoint.pt")["step"]
    assert steps == json.loads(out)["steps"] > 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
