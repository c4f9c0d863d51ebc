"""Trials on held-out objects and the card of packed weights."""

import pytest
import torch
from small_training import SMALL, small_atlas, small_network
from verbs import run_verb

from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.training import run
from relo_edge.training.held_out import try_held_out
from relo_edge.training.pack_weights import read_card


@pytest.mark.slow
def test_the_same_clips_whatever_the_weights_and_the_mode_is_left_as_it_was():
    network = small_network().train()
    first, second = (try_held_out(network, small_atlas(), 18, 2) for _ in range(2))
    assert first == second
    assert network.training
    assert (first.clips, first.frames) == (18, 2)
    assert 0 <= first.sr75 <= first.mean_iou <= 1
    other = try_held_out(small_network(seed=1), small_atlas(), 18, 2)
    assert other != first
    assert SMALL.name in network.variant.name


def test_the_objects_are_brought_to_the_network():
    """Drawn on the CPU, they would not meet a network on a GPU."""

    class Brought(Exception):
        pass

    class Elsewhere:
        def to(self, device):
            raise Brought(device.type)

    with pytest.raises(Brought, match="meta"):
        try_held_out(small_network().to("meta"), Elsewhere(), 4, 2)


def test_a_tracker_that_is_always_right_reaches_one(monkeypatch):
    from relo_edge.training import closed_loop

    monkeypatch.setattr(closed_loop, "pair_iou", lambda first, second: torch.ones(len(second)))
    trial = try_held_out(small_network(), small_atlas(), 4, 2)
    assert (trial.mean_iou, trial.sr75) == (1, 1)
    assert "SR0.75 1.000" in trial.describe()


@pytest.mark.slow
def test_weights_tell_where_they_come_from(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "ATLAS", 6)
    monkeypatch.setattr(run, "TRIAL_CLIPS", 1)
    words = ["--batch-clips", "2", "--steps", "1", "--seed", "4"]
    code, _, err = run_verb(
        capsys, "train", "reinforce", "--from", find_demo_checkpoint(), "-o", tmp_path, *words
    )
    assert code == 0, err
    card = read_card(tmp_path / "reinforce.safetensors")
    assert {card[name] for name in ("stage", "steps", "clips", "seed")} == {
        "reinforce",
        "1",
        "2",
        "4",
    }
    assert len(card["start"]) == 64
