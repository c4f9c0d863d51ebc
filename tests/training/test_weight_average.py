"""The average of a run's weights: what it holds, and that a resumed run's is an unbroken run's."""

import pytest
import torch
from small_training import small_network, train_small

from relo_edge.training.weight_average import copy_for_average, update_average


class Counted(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1)


def test_the_average_reaches_back_over_its_share_of_the_steps():
    network = Counted()
    average = copy_for_average(network)
    bias = network.norm.bias
    means = []
    for step in range(1, 241):
        bias.data.fill_(float(step))
        network.norm.num_batches_tracked.fill_(step)
        update_average(average, network, step, 0.25)
        means.append(float(average.norm.bias))
    assert means[0] == pytest.approx(0.8)  # 0 + (1 - 0) / (1 + 0.25)
    assert means[1] == pytest.approx(0.8 + (2 - 0.8) / 1.5)
    assert float(average.norm.num_batches_tracked) == 240
    # In a ramp the mean lags by share / (1 + share) of the steps.
    assert means[-1] == pytest.approx(240 * 0.8, rel=0.01)


def test_weights_that_stand_still_keep_their_bits():
    network = small_network()
    average = copy_for_average(network)
    for step in range(1, 9):
        update_average(average, network, step, 0.3)
    for name, value in network.state_dict().items():
        assert torch.equal(value, average.state_dict()[name]), name


@pytest.mark.slow
def test_a_resumed_average_is_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.training.loop.anneal", lambda step, settings: 1.0)
    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole, run_state, _ = train_small(tmp_path / "whole", 4, average=0.5)
    train_small(tmp_path / "cut", 2, average=0.5)
    resumed, _, _ = train_small(tmp_path / "cut", 4, small_network(seed=9), average=0.5)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    saved = torch.load(run_state.checkpoint, weights_only=True)
    assert saved["net"].keys() == saved["learning"].keys()
    name = "encoder.body.blocks.0.mlp.fc1.weight"
    assert torch.equal(saved["net"][name], whole.state_dict()[name])
    assert not torch.equal(saved["net"][name], saved["learning"][name])


@pytest.mark.slow
def test_a_run_without_an_average_can_go_on_with_one(tmp_path):
    train_small(tmp_path, 2)
    _, run_state, finished = train_small(tmp_path, 3, average=0.5)
    assert finished
    assert "learning" in torch.load(run_state.checkpoint, weights_only=True)
