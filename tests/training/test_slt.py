"""Sequence-level training: hand-computed losses, gradients where they belong, a run that learns."""

import itertools
import os
import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from math import log
from pathlib import Path

import numpy as np
import pytest
import torch
from children import wait_for_file
from small_training import SMALL, copy_state, small_atlas, small_network
from verbs import run_verb

from relo_edge.geometry import clip_box
from relo_edge.spec import find_variant
from relo_edge.training import closed_loop, run
from relo_edge.training.checkpointing import RunState
from relo_edge.training.closed_loop import (
    keep_in_frame,
    pick_best,
    sample_cells,
    track_sequences,
)
from relo_edge.training.init_weights import build_fresh
from relo_edge.training.loop import LoopSettings, run_loop
from relo_edge.training.render import LEAST_SEEN, Jitter
from relo_edge.training.scenes import Pace
from relo_edge.training.sequences import draw_sequences, join_sequences
from relo_edge.training.slt import SequenceLevel, clip_reward, self_critical_loss
from relo_edge.training.synthetic_batches import ClipSettings, count_items, stream_sequences


def small_sequences(clips=2, frames=3, seed=0, variant=SMALL):
    generator = torch.Generator().manual_seed(seed)
    return draw_sequences(small_atlas(), variant, generator, clips, frames, Pace())


def test_the_loss_of_two_choices_is_what_the_paper_says():
    # Two clips of two frames; the sample of the first is better by 0.2, of the second worse by 0.1.
    chosen = torch.tensor([[0.5, 0.25], [0.1, 0.8]]).log()
    reward, baseline = torch.tensor([0.7, 0.4]), torch.tensor([0.5, 0.5])
    wanted = -(0.2 * (log(0.5) + log(0.25)) - 0.1 * (log(0.1) + log(0.8))) / 2
    assert self_critical_loss(chosen, reward, baseline).item() == pytest.approx(wanted)


def test_a_choice_that_pays_becomes_likelier_and_one_that_does_not_rarer():
    for advantage, way in ((0.3, 1), (-0.3, -1), (0.0, 0)):
        logits = torch.zeros(1, 4, requires_grad=True)
        chosen = logits.log_softmax(dim=1)[:, 2:3]
        self_critical_loss(chosen, torch.tensor([advantage]), torch.tensor([0.0])).backward()
        # d(−a log p)/d logit of the choice = −a (1 − p), p a quarter.
        assert logits.grad[0, 2].item() == pytest.approx(-advantage * 0.75)
        assert np.sign(-logits.grad[0, 2].item()) == way


def test_the_reward_carries_no_gradient():
    reward = torch.tensor([0.7], requires_grad=True)
    chosen = torch.tensor([[-1.0]], requires_grad=True)
    self_critical_loss(chosen, reward, torch.tensor([0.5])).backward()
    assert reward.grad is None
    assert chosen.grad.item() == pytest.approx(-0.2)


def test_the_reward_is_the_average_overlap_and_a_share_of_the_auc():
    overlaps = torch.tensor([[1.0, 0.5, 0.0]])
    visible = torch.tensor([[1.0, 1.0, 0.0]])
    assert clip_reward(overlaps, visible, 0.0).item() == pytest.approx(0.75)
    weighed = clip_reward(overlaps, visible, 2.0).item()
    # Of both frames above thresholds below a half, of one below one: by trapezoids of a twentieth.
    curve = [1.0] * 10 + [0.5] * 10 + [0.0]
    auc = sum((a + b) / 2 for a, b in itertools.pairwise(curve)) / 20
    assert weighed == pytest.approx(0.75 + 2 * auc)


def learn_once(stage, network, batch, seed=0):
    stage.group_parameters(network)
    stage.set_mode(network)
    torch.manual_seed(seed)
    loss, shown = stage.learn(network, batch)
    loss.backward()
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}, shown


def test_the_gradient_goes_where_it_should_and_nowhere_else():
    gradients, _ = learn_once(SequenceLevel(), small_network(), small_sequences())
    told = {name for name, gradient in gradients.items() if gradient.abs().sum() > 0}
    assert any(name.startswith("encoder.") for name in told)
    assert any(name.startswith("policy_model.") for name in told)
    assert {"decoder.conv5_size.weight", "decoder.conv5_offset.weight"} <= told
    assert not any(name.startswith("value_model.") or "decoder.conv5_ctr" in name for name in told)
    assert not any(name.startswith("decoder.") and "_ctr" in name for name in gradients)


def test_the_policy_learns_from_rewards_alone_and_the_boxes_from_their_loss_alone(monkeypatch):
    gradients, _ = learn_once(SequenceLevel(box_weight=0.0), small_network(), small_sequences())
    decoder = [g for name, g in gradients.items() if name.startswith("decoder.")]
    assert all(gradient.abs().sum() == 0 for gradient in decoder)
    monkeypatch.setattr("relo_edge.training.slt.sample_cells", pick_best)
    gradients, shown = learn_once(SequenceLevel(), small_network(), small_sequences())
    assert shown["advantage"] == 0, "the same choices, so the same track"
    policy = [g for name, g in gradients.items() if name.startswith("policy_model.")]
    assert all(gradient.abs().sum() == 0 for gradient in policy)


def test_batch_norm_keeps_its_statistics_and_the_encoder_learns_at_a_tenth():
    network, stage = small_network(), SequenceLevel()
    before = copy_state(network)
    groups = stage.group_parameters(network)
    assert [group["scale"] for group in groups] == [0.1, 1.0]
    learn_once(stage, network, small_sequences())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_each_crop_lies_where_the_trackers_own_last_box_was():
    batch = small_sequences(clips=2, frames=3)
    batch = replace(batch, edges=torch.tensor([-1e3, -1e3, 1e3, 1e3]).repeat(2, 1))
    asked = []

    class Spy:
        def crop(self, frame, middles, sides, size):
            asked.append((frame, middles.clone(), sides.clone()))
            return batch.pictures.crop(frame, middles, sides, size)

    network = small_network().eval()
    steps = list(track_sequences(network, replace(batch, pictures=Spy()), pick_best))
    assert [frame for frame, _, _ in asked] == [1, 2, 3]
    first = batch.boxes[:, 0]
    assert torch.equal(asked[0][1], first[:, :2])
    assert torch.allclose(asked[0][2], 4 * first[:, 2:].prod(dim=1).sqrt())
    for before, after, step in zip(asked, asked[1:], steps, strict=False):
        cell = step.cells
        offset = step.maps.offsets.flatten(2)[torch.arange(2), :, cell]
        corner = torch.stack([cell % SMALL.grid, cell // SMALL.grid], dim=1)
        place = (corner + offset) / SMALL.grid
        wanted = before[1] + (place - 0.5) * before[2][:, None]
        assert torch.allclose(after[1], wanted, atol=1e-4)
        assert torch.equal(cell, step.scores.argmax(dim=1))


def test_the_choice_is_made_after_the_window(monkeypatch):
    network, batch = small_network().eval(), small_sequences(frames=1)
    peak = np.zeros((SMALL.grid, SMALL.grid), np.float32)
    peak[1, 2] = 1e6
    with torch.no_grad():
        network.policy_model.conv5_ctr.bias.fill_(100.0)
    monkeypatch.setattr(closed_loop, "hann_window", lambda grid, factor: peak)
    for choose in (pick_best, sample_cells):
        (step,) = track_sequences(network, batch, choose)
        assert step.cells.tolist() == [SMALL.grid + 2] * 2


def test_boxes_are_kept_in_frame_as_the_tracker_keeps_them():
    rng = np.random.default_rng(0)
    boxes = np.column_stack([rng.uniform(-60, 160, (200, 2)), rng.uniform(0.5, 90, (200, 2))])
    edges = torch.tensor([[0.0, 0, 100, 80]]).expand(200, -1)
    centred = torch.from_numpy(boxes).clone()
    centred[:, :2] += centred[:, 2:] / 2
    kept = keep_in_frame(centred, edges, torch.full((200,), 10.0)).double()
    kept[:, :2] -= kept[:, 2:] / 2
    wanted = np.array([clip_box(tuple(box), 100, 80, 10.0) for box in boxes])
    assert np.abs(kept.numpy() - wanted).max() < 1e-4


def test_a_frame_looks_the_same_to_whoever_looks_at_it():
    batch = small_sequences()
    middles, sides = batch.boxes[:, 1, :2], batch.boxes[:, 1, 2:].prod(dim=1).sqrt() * 4
    first, second = (batch.pictures.crop(1, middles, sides, 32) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, batch.pictures.crop(2, middles, sides, 32))


@pytest.mark.slow
def test_sequences_begin_at_the_template_and_move_smoothly():
    batch = small_sequences(clips=32, frames=12, seed=4)
    steps = (batch.boxes[:, 1:, :2] - batch.boxes[:, :-1, :2]).norm(dim=2)
    size = batch.boxes[:, :-1, 2:].prod(dim=2).sqrt()
    assert (steps / size).median() < 0.5
    assert batch.visible.float().mean() > 0.8
    assert LEAST_SEEN > 0
    still, fast = (
        draw_sequences(
            small_atlas(), SMALL, torch.Generator().manual_seed(1), 64, 6, Pace(intervals)
        )
        for intervals in (1, 20)
    )
    moved = [
        (one.boxes[:, 1:, :2] - one.boxes[:, :-1, :2]).norm(dim=2).median() for one in (still, fast)
    ]
    assert moved[1] > 2 * moved[0], "longer intervals show faster targets"


def test_joined_batches_show_each_its_own_frames():
    parts = [small_sequences(seed=seed) for seed in (1, 2)]
    both = join_sequences(parts)
    middles = both.boxes[:, 1, :2]
    sides = both.boxes[:, 1, 2:].prod(dim=1).sqrt() * 4
    shown = both.pictures.crop(1, middles, sides, 32)
    for row, part in zip((slice(0, 2), slice(2, 4)), parts, strict=True):
        assert torch.equal(shown[row], part.pictures.crop(1, middles[row], sides[row], 32))


def test_two_templates_and_other_sizes_train_as_well():
    variant = replace(
        find_variant("b256"),
        name="small-b",
        width=64,
        heads=2,
        depth=2,
        stage_blocks=(1, 1),
        temporal_tokens=2,
        head_channels=16,
        search_size=64,
        template_size=32,
    )
    network = build_fresh(variant, 0)
    batch = small_sequences(clips=1, frames=2, variant=variant)
    gradients, _ = learn_once(SequenceLevel(), network, batch)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_frames_grow_over_the_run():
    settings = ClipSettings(2, 24, Jitter(), parts=2, intervals=7, first_frames=8, steps=90)
    assert [settings.grow(item) for item in (0, 60, 120, 178)] == [8, 16, 24, 24]


@pytest.fixture
def small_runs(monkeypatch):
    monkeypatch.setattr(run, "ATLAS", 6)
    monkeypatch.setattr(run, "TRIAL_CLIPS", 1)


@pytest.mark.slow
def test_the_verb_trains_and_goes_on_and_export_reads_it(tmp_path, small_runs, capsys):
    from relo_edge.network.checkpoint import read_checkpoint
    from relo_edge.network.demo import find_demo_checkpoint

    start = find_demo_checkpoint()
    words = ["train", "slt", "--from", start, "-o", tmp_path, "--batch-clips", "2"]
    few = ["--accumulate", "2", "--threads", "1"]
    code, _, _ = run_verb(capsys, *words, "--steps", "1", *few, "--no-trial")
    assert code == 0
    before, after = read_checkpoint(start), read_checkpoint(tmp_path / "slt-checkpoint.pt")
    same = {name for name, w in after.weights.items() if torch.equal(w, before.weights[name])}
    assert "value_model.fc_val.weight" in same
    assert "policy_model.conv5_ctr.weight" not in same
    code, _, err = run_verb(capsys, *words, "--steps", "2", "--threads", "1")
    assert code == 0
    assert "going on after step 1" in err or (tmp_path / "slt-log.csv").exists()


def train_small_slt(folder, steps):
    network = small_network()
    folder.mkdir(exist_ok=True)
    run_state = RunState(folder, "slt", {"seed": 1})
    run_state.restore(network)
    settings = LoopSettings(steps, 1e-3, warm_steps=1, half=False, save_every=2, log_every=1)
    clips, items = ClipSettings(1, 2, Jitter(), 3, intervals=3), count_items(1, run_state.step)
    with closing(stream_sequences(small_atlas(), SMALL, clips, items)) as stream:
        finished = run_loop(network, SequenceLevel(), stream, settings, run_state)
    return network.state_dict(), finished


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.training.loop.anneal", lambda step, settings: 1.0)
    whole, _ = train_small_slt(tmp_path / "whole", 4)
    train_small_slt(tmp_path / "cut", 2)
    resumed, finished = train_small_slt(tmp_path / "cut", 4)
    assert finished
    for name, value in whole.items():
        assert torch.allclose(value, resumed[name], atol=1e-6), name


KILLED = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_slt import train_small_slt
train_small_slt(Path(sys.argv[1]), 10**6)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on(kill, tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED, tmp_path, here, here.parent / "helpers"]
    process = subprocess.Popen(list(map(str, command)), start_new_session=True)
    wait_for_file(tmp_path / "slt-checkpoint.pt", process)
    os.killpg(process.pid, kill)
    assert process.wait(60) == (-kill if kill == signal.SIGKILL else 0)
    saved = torch.load(tmp_path / "slt-checkpoint.pt", weights_only=True)
    _, finished = train_small_slt(tmp_path, saved["step"] + 2)
    assert finished
    rows = (tmp_path / "slt-log.csv").read_text().splitlines()[1:]
    assert [float(row.partition(",")[0]) for row in rows] == list(range(1, saved["step"] + 3))
