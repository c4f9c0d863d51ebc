"""`train drlt` from the command line: resumed as every stage, refused in one line."""

import csv
import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from children import wait_for_file
from verbs import run_verb

from relo_edge.network.drlt import build_drlt
from relo_edge.network.drlt_sizes import DRLT_VARIANTS, find_drlt_variant
from relo_edge.training import drlt_run
from relo_edge.training.box_reinforce import BoxReinforce
from relo_edge.training.drlt_run import choose_drlt_recipe
from relo_edge.training.loop import LoopSettings, anneal
from relo_edge.training.pack_weights import read_card
from relo_edge.training.requests import TrainRequest

WORDS = ("--steps", "4", "--batch-clips", "4", "--threads", "1", "--json")


@pytest.fixture
def quick(monkeypatch):
    """One clip to try, and a checkpoint every second step."""

    def choose(*arguments):
        recipe = choose_drlt_recipe(*arguments)
        loop = LoopSettings(4, 1e-3, warm_steps=1, log_every=1, save_every=2, half=False)
        return drlt_run.DrltRecipe(recipe.stage, recipe.clips, loop)

    monkeypatch.setattr(drlt_run, "choose_drlt_recipe", choose)
    monkeypatch.setattr(drlt_run, "TRIAL_CLIPS", 1)
    monkeypatch.setattr(drlt_run, "START_CLIPS", 1)


def load(folder):
    return torch.load(folder / "drlt-checkpoint.pt", weights_only=True)


@pytest.mark.slow
def test_a_run_cut_off_ends_as_an_unbroken_one(quick, tmp_path, monkeypatch, capsys):
    code, out, _ = run_verb(capsys, "train", "drlt", "-o", tmp_path / "whole", *WORDS)
    assert code == 0
    result = json.loads(out)
    assert result["variant"] == "drlt-demo"
    assert set(result["trial"]) >= {"mean_iou", "still_iou", "moving_iou", "start_iou"}

    learn, calls = BoxReinforce.learn, []

    def break_off(self, network, batch):
        calls.append(1)
        if len(calls) == 4:
            raise RuntimeError("cut off")
        return learn(self, network, batch)

    cut = tmp_path / "cut"
    with monkeypatch.context() as broken:
        broken.setattr(BoxReinforce, "learn", break_off)
        with pytest.raises(RuntimeError, match="cut off"):
            run_verb(capsys, "train", "drlt", "-o", cut, *WORDS)
    assert load(cut)["step"] == 2
    code, _, _ = run_verb(capsys, "train", "drlt", "-o", cut, *WORDS)
    assert code == 0
    whole, resumed = load(tmp_path / "whole"), load(cut)
    assert resumed["step"] == 4
    for name, value in whole["net"].items():
        assert torch.allclose(value, resumed["net"][name], atol=1e-6), name
    with (cut / "drlt-log.csv").open() as file:
        assert [float(row["step"]) for row in csv.DictReader(file)] == [1, 2, 3, 4]
    assert (cut / "drlt-curve.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_finished_run_leaves_small_weights_with_a_card(quick, tmp_path, capsys):
    from safetensors.torch import load_file

    assert run_verb(capsys, "train", "drlt", "-o", tmp_path, *WORDS)[0] == 0
    packed = tmp_path / "drlt.safetensors"
    assert packed.stat().st_size < 2 * 2**20
    card = read_card(packed)
    assert card["variant"] == "drlt-demo"
    assert "a static box" in card["trial"]
    weights = {name: one.float() for name, one in load_file(packed).items()}
    build_drlt(find_drlt_variant("drlt-demo"), weights)
    for name, value in load(tmp_path)["net"].items():
        assert torch.allclose(weights[name], value, rtol=1e-3, atol=1e-6), name


@pytest.mark.slow
def test_without_a_trial_the_run_is_as_whole(quick, tmp_path, capsys):
    code, out, _ = run_verb(capsys, "train", "drlt", "-o", tmp_path, *WORDS, "--no-trial")
    assert code == 0
    assert json.loads(out)["trial"] is None
    assert "trial" not in read_card(tmp_path / "drlt.safetensors")
    trial = json.loads(run_verb(capsys, "train", "drlt", "-o", tmp_path, *WORDS)[1])["trial"]
    assert trial["start_iou"] is None


@pytest.mark.slow
def test_another_run_is_not_gone_on_with(quick, tmp_path, capsys):
    assert run_verb(capsys, "train", "drlt", "-o", tmp_path, *WORDS)[0] == 0
    code, _, err = run_verb(capsys, "train", "drlt", "-o", tmp_path, *WORDS, "--seed", "2")
    assert code == 1
    assert "belongs to another training run: found seed 0, expected seed 2" in err


def test_parts_divide_a_steps_clips(tmp_path):
    demo = DRLT_VARIANTS["drlt-demo"]
    for accumulate in (1, 4):
        request = TrainRequest(stage="drlt", output=tmp_path, accumulate=accumulate)
        clips = choose_drlt_recipe(request, demo).clips
        assert clips.clips * clips.parts == 32


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--variant", "t256"], "variant: found t256, expected drlt | drlt-demo"),
        (["--from", "a.pt"], "--from: found with drlt, expected another stage"),
        (["--textures", "a.mp4"], "--textures: found with drlt"),
        (["--cutouts", "coco"], "--cutouts: found with drlt"),
        (["--data", "clips"], "--data: found with drlt"),
        (["--algorithm", "ppo"], "--algorithm: found with drlt, expected with reinforce"),
        (["--batch-clips", "6"], "--batch-clips: found 6, expected a multiple of 4"),
        (["--batch-clips", "8", "--accumulate", "4"], "expected a multiple of 16"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_line(words, told, tmp_path, capsys):
    code, _, err = run_verb(capsys, "train", "drlt", "-o", tmp_path / "x", *words)
    assert code == 2
    assert told in err
    assert not (tmp_path / "x").exists()


def test_the_paper_s_recipe(tmp_path):
    request = TrainRequest(stage="drlt", output=tmp_path, variant="drlt")
    recipe = choose_drlt_recipe(request, DRLT_VARIANTS["drlt"])
    assert (recipe.stage.episodes, recipe.stage.spread) == (5, 0.01)
    assert recipe.clips.grow(0) == recipe.clips.frames == 10
    rates = [recipe.loop.rate * anneal(step, recipe.loop) for step in (200, recipe.loop.steps)]
    assert rates == [pytest.approx(1e-5, rel=0.02), pytest.approx(1e-6)]


KILLED = """
import functools, sys
from relo_edge.cli import main
from relo_edge.training import drlt_run
drlt_run.TRIAL_CLIPS = drlt_run.START_CLIPS = 1
drlt_run.LoopSettings = functools.partial(drlt_run.LoopSettings, log_every=2)
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_killed_at_any_moment_the_run_goes_on(kill, tmp_path):
    command = [sys.executable, "-c", KILLED, "train", "drlt", "-o", str(tmp_path)]
    command += ["--batch-clips", "4", "--threads", "1"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_for_file(tmp_path / "drlt-log.csv", process, seconds=300)
    os.killpg(process.pid, kill)
    # Nothing is saved before step 250, except by Ctrl-C.
    assert process.wait(60) == (-kill if kill == signal.SIGKILL else 130)
    checkpoint = tmp_path / "drlt-checkpoint.pt"
    step = load(tmp_path)["step"] if checkpoint.exists() else 0
    assert (step > 0) == (kill == signal.SIGINT)
    again = subprocess.run([*command, "--steps", str(step + 2), "--json"], capture_output=True)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["steps"] == step + 2
