"""A run from the command line: resumed after any kill, refused in one line, exported as it is."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from children import wait_for_file
from small_training import small_network, train_small
from verbs import run_verb

from relo_edge.errors import CheckpointError
from relo_edge.host.locks import lock_output
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.training import run
from relo_edge.training.checkpointing import RunState
from relo_edge.training.curve import draw_curve
from relo_edge.training.loop import LoopSettings, anneal
from relo_edge.training.warmup import Warmup


@pytest.mark.slow
def test_an_interrupted_run_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.training.loop.anneal", lambda step, settings: 1.0)
    (tmp_path / "whole").mkdir()
    (tmp_path / "cut").mkdir()
    whole, _, _ = train_small(tmp_path / "whole", 4)
    train_small(tmp_path / "cut", 2)
    resumed, run_state, finished = train_small(tmp_path / "cut", 4, small_network(seed=9))
    assert finished
    assert run_state.step == 4
    for name, value in whole.state_dict().items():
        assert torch.allclose(value, resumed.state_dict()[name], atol=1e-6), name
    with (tmp_path / "cut" / "warmup-log.csv").open() as file:
        assert [float(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4]
    draw_curve(tmp_path / "cut" / "warmup-log.csv", tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_that_ends_before_its_first_line_has_no_curve(tmp_path):
    draw_curve(tmp_path / "warmup-log.csv", tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path):
    run_state = RunState(tmp_path, "warmup", {"seed": 1})
    run_state.checkpoint.write_bytes(b"half a file")
    with pytest.raises(
        CheckpointError, match="warmup-checkpoint.pt is no training run that can be resumed"
    ):
        run_state.restore(small_network())
    torch.save({"net": {"a": torch.zeros(1)}}, run_state.checkpoint)
    with pytest.raises(CheckpointError, match="train into another folder"):
        run_state.restore(small_network())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02]."])
def test_any_damage_is_one_line(tmp_path, content):
    run_state = RunState(tmp_path, "warmup", {})
    run_state.checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match="no training run that can be resumed"):
        run_state.restore(small_network())


@pytest.mark.slow
def test_another_training_is_not_gone_on_with(tmp_path):
    train_small(tmp_path, 1)
    other = RunState(tmp_path, "warmup", {"seed": 2})
    with pytest.raises(CheckpointError, match="found seed 1, expected seed 2"):
        other.restore(small_network())
    assert other.step == 0


@pytest.mark.slow
def test_a_log_is_cut_to_what_the_checkpoint_knows(tmp_path):
    _, run_state, _ = train_small(tmp_path, 2)
    with run_state.log.open("a") as file:
        file.write("3,0,0,0,0,0,0\n4,half a li")
    again = RunState(tmp_path, "warmup", {"seed": 1})
    assert again.restore(small_network())
    with again.log.open() as file:
        assert [float(row["step"]) for row in csv.DictReader(file)] == [1, 2]


@pytest.mark.slow
def test_a_gradient_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    _, run_state, _ = train_small(tmp_path, 2)
    kept = run_state.checkpoint.read_bytes()
    learn = Warmup.learn

    def spoil(self, network, batch):
        loss, shown = learn(self, network, batch)
        return loss * float("nan"), shown

    monkeypatch.setattr(Warmup, "learn", spoil)
    for steps, log_every, noticed in ((4, 1, 3), (8, 99, 4), (3, 99, 3)):
        told = f"step {noticed}: found a gradient that is not finite"
        with pytest.raises(CheckpointError, match=told):
            train_small(tmp_path, steps, log_every=log_every)
        assert run_state.checkpoint.read_bytes() == kept


def test_the_rate_rises_then_falls():
    settings = LoopSettings(steps=100, rate=1.0, warm_steps=10)
    rates = [anneal(step, settings) for step in range(101)]
    assert rates[0] < rates[5] < rates[10]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


@pytest.mark.slow
def test_the_verb_trains_both_stages_into_checkpoints_that_export_reads(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(run, "ATLAS", 6)
    monkeypatch.setattr(run, "TRIAL_CLIPS", 1)
    words = ["--steps", "1", "--batch-clips", "2", "--threads", "1", "--json"]
    code, out, _ = run_verb(capsys, "train", "warmup", "-o", tmp_path, "--no-trial", *words)
    assert code == 0, out
    assert json.loads(out)["trial"] is None
    start = tmp_path / "warmup-checkpoint.pt"
    code, out, _ = run_verb(capsys, "train", "reinforce", "--from", start, "-o", tmp_path, *words)
    assert code == 0, out
    assert 0 <= json.loads(out)["trial"]["auc"] <= 1
    whole = read_checkpoint(tmp_path / "reinforce-checkpoint.pt")
    packed = read_checkpoint(tmp_path / "reinforce.safetensors")
    assert whole.variant.name == packed.variant.name == "demo"
    for name, weight in whole.weights.items():
        assert torch.allclose(weight, packed.weights[name], rtol=1e-3, atol=1e-6), name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["polish", "-o", "x"], "stage: found polish, expected warmup | reinforce"),
        (["reinforce", "-o", "x"], "run the warmup stage first"),
        (["warmup", "-o", "x", "--steps", "0"], "--steps: found 0, expected 1 or more"),
        (["warmup", "-o", "x", "--variant", "sutrack-t224"], "found sutrack-t224, expected t256 |"),
        (["warmup", "-o", "x", "--rate", "7"], "--rate: found 7.0"),
        (["warmup", "-o", "x", "--seed", "-1"], "--seed: found -1"),
        (["warmup", "-o", "x", "--algorithm", "ppo"], "--algorithm: found with warmup"),
        (["warmup", "-o", "x", "--fresh-policy"], "--fresh-policy: found no --from"),
        (["warmup", "-o", "x", "--algorithm", "q"], "expected actor-critic | ppo | grpo"),
        (["warmup", "-o", "x", "--from", "none.pt"], "none.pt cannot be opened"),
        (["qat", "-o", "x"], "qat: found no weights, expected trained weights"),
        (["qat", "-o", "x", "--from", "none.pt"], "none.pt cannot be opened"),
        (["qat", "-o", "x", "--algorithm", "ppo"], "--algorithm: found with qat"),
        (["qat", "-o", "x", "--from", "a", "--fresh-policy"], "--fresh-policy: found with qat"),
        (["slt", "-o", "x"], "slt: found no weights, expected trained weights"),
        (["slt", "-o", "x", "--from", "a", "--learn-centres"], "--learn-centres: found with slt"),
        (["slt", "-o", "x", "--from", "a", "--fresh-policy"], "--fresh-policy: found with slt"),
        (["warmup", "-o", "x", "--accumulate", "0"], "--accumulate: found 0"),
        (["warmup", "-o", "x", "--batch-clips", "3", "--accumulate", "2"], "a multiple of 2"),
        (["warmup", "-o", "x", "--cutouts", "none"], "--cutouts 'none': found no COCO"),
        (["warmup", "-o", "x", "--attention"], "--attention: found with warmup, expected with qat"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _, err = run_verb(capsys, "train", *words)
    assert code == 2
    assert message in err
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("stage", ["warmup", "drlt"])
def test_a_second_run_in_the_folder_leaves_the_firsts_log_alone(stage, tmp_path, capsys):
    """Before the first checkpoint, a log without one is a deleted run's."""
    log = tmp_path / f"{stage}-log.csv"
    log.write_text("step,loss\n25,1.5\n")
    with lock_output(tmp_path / stage):
        code, _, err = run_verb(capsys, "train", stage, "-o", tmp_path)
    assert code == 2
    assert "is being written" in err
    assert log.read_text() == "step,loss\n25,1.5\n"


def test_a_texture_video_that_is_none(tmp_path, capsys):
    (tmp_path / "no.mp4").write_bytes(b"no video")
    code, _, err = run_verb(
        capsys, "train", "warmup", "-o", tmp_path, "--textures", tmp_path / "no.mp4"
    )
    assert code in (1, 2)
    assert "texture video" in err


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_run import train_small
train_small(Path(sys.argv[1]), 10**6)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_any_moment_the_last_checkpoint_loads(kill, tmp_path):
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": str(here.parent / "helpers")}
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(here)]
    process = subprocess.Popen(
        command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True
    )
    checkpoint = tmp_path / "warmup-checkpoint.pt"
    wait_for_file(checkpoint, process)
    time.sleep(0.35)
    # Ctrl-C in a terminal reaches the process that draws the clips as well.
    os.killpg(process.pid, kill)
    assert process.wait(60) == (-kill if kill == signal.SIGKILL else 0)
    ended = RunState(tmp_path, "warmup", {"seed": 1})
    assert ended.restore(small_network())
    _, run_state, finished = train_small(tmp_path, ended.step + 2)
    assert finished
    assert run_state.step == ended.step + 2
