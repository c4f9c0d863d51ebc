"""REINFORCE on boxes: rewards and gradient against small cases worked out by hand."""

import math

import pytest
import torch

from relo_edge.network.drlt import build_fresh_drlt
from relo_edge.network.drlt_sizes import Convolution, build_variant
from relo_edge.training.box_reinforce import (
    BoxReinforce,
    detector_loss,
    distance_reward,
    overlap_reward,
    policy_loss,
)
from relo_edge.training.frame_clips import FrameClips

SMALL = build_variant("small", 16, [Convolution(4, 3, 2, pool=2), Convolution(5, 1)], 6, 8)


def test_the_distance_is_minus_mean_minus_max():
    boxes = torch.tensor([[0.5, 0.5, 0.2, 0.2], [0.4, 0.9, 0.2, 0.1]])
    wanted = torch.tensor([0.5, 0.5, 0.2, 0.2])
    # errors of the second: 0.1, 0.4, 0, 0.1, of which the mean is 0.15
    assert torch.allclose(distance_reward(boxes, wanted), torch.tensor([0.0, -0.55]))


def test_the_overlap_of_centre_and_size():
    wanted = torch.tensor([0.5, 0.5, 0.2, 0.2])
    boxes = torch.tensor(
        [
            [0.5, 0.5, 0.2, 0.2],
            [0.6, 0.5, 0.2, 0.2],  # half of each: 0.02 of 0.06
            [0.9, 0.5, 0.2, 0.2],
            [0.5, 0.5, -0.2, -0.2],  # turned inside out
        ]
    )
    expected = torch.tensor([1.0, 1 / 3, 0.0, 0.0])
    assert torch.allclose(overlap_reward(boxes, wanted), expected, atol=1e-6)


def test_the_gradient_by_hand():
    """Two episodes of one frame: rewards 1 and 0, so advantages of a half and of minus a half."""
    means = torch.tensor([[[0.5, 0.5, 0.2, 0.2]]], requires_grad=True)
    noise = torch.tensor([[0.01, 0.0, 0.0, 0.0], [0.0, -0.02, 0.0, 0.0]])
    boxes = means.detach() + noise[:, None, None]
    policy_loss(means, boxes, torch.tensor([1.0, 0.0])[:, None, None], 0.01).backward()
    # (1/N) Σ (l−μ)/σ² (r−b) = ½ (0.01/1e-4 · ½, −0.02/1e-4 · −½) = (25, 50)
    assert torch.allclose(means.grad[0, 0], torch.tensor([-25.0, -50.0, 0.0, 0.0]), rtol=1e-4)


def test_the_same_reward_in_every_episode_teaches_nothing():
    means = torch.rand(2, 3, 4, requires_grad=True)
    boxes = means.detach() + 0.01 * torch.randn(5, 2, 3, 4)
    policy_loss(means, boxes, torch.full((5, 2, 3), 0.7), 0.01).backward()
    assert means.grad.abs().max() < 1e-4


def test_many_episodes_find_the_slope_of_the_expected_reward():
    """For a reward a·l the expected one is a·μ, whose gradient is a."""
    torch.manual_seed(0)
    slope = torch.tensor([1.0, -2.0, 0.5, 0.0])
    means = torch.zeros(1, 1, 4, requires_grad=True)
    boxes = 0.01 * torch.randn(200_000, 1, 1, 4)
    policy_loss(means, boxes, boxes @ slope, 0.01).backward()
    assert torch.allclose(-means.grad[0, 0], slope, atol=0.03)


def draw_batch(progress=0.0):
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (2, 3, 16, 16, 3), dtype=torch.uint8, generator=generator)
    boxes = torch.tensor([0.4, 0.6, 0.3, 0.2]).expand(2, 3, 4)
    return FrameClips(frames, boxes, progress)


@pytest.mark.parametrize(("progress", "early"), [(0.1, True), (0.63, True), (0.64, False)])
def test_early_steps_learn_from_distance_and_late_ones_from_overlap(progress, early):
    network = build_fresh_drlt(SMALL, 1)
    _, shown = BoxReinforce().learn(network, draw_batch(progress))
    assert (shown["reward"] < 0) == early


@pytest.mark.slow
@pytest.mark.parametrize("progress", [0.1, 1.0])
def test_the_reward_rises(progress):
    torch.manual_seed(0)
    network = build_fresh_drlt(SMALL, 1)
    with torch.no_grad():  # start where boxes overlap at all
        for name in ("bias_ih_l0", "bias_hh_l0"):
            bias = network.recurrent.get_parameter(name)
            bias[2 * SMALL.hidden :] += 0.5
    stage = BoxReinforce(episodes=16)
    optimizer = torch.optim.Adam(stage.group_parameters(network), 3e-3)
    stage.set_mode(network)
    rewards = []
    for _ in range(80):
        loss, shown = stage.learn(network, draw_batch(progress))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(float(shown["reward"]))
    assert sum(rewards[-5:]) / 5 > rewards[0] + 0.2


@pytest.mark.parametrize(
    ("progress", "learning"),
    [
        (0.0, {"convolutions"}),
        (0.39, {"features", "joined", "recurrent"}),
        (0.4, {"convolutions", "features", "joined", "recurrent"}),
        (1.0, {"convolutions", "features", "joined", "recurrent"}),
    ],
)
def test_first_the_detector_learns_then_all_but_it_then_everything(progress, learning):
    network = build_fresh_drlt(SMALL, 1)
    with torch.no_grad():  # reward IoU is flat where boxes do not overlap
        network.recurrent.get_parameter("bias_ih_l0")[2 * SMALL.hidden :] += 1.0
    loss, _ = BoxReinforce().learn(network, draw_batch(progress))
    loss.backward()
    for name, parameter in network.named_parameters():
        part = name.removeprefix("observation.").partition(".")[0]
        assert (parameter.grad is not None) == (part in learning), name
        assert parameter.grad is None or parameter.grad.abs().sum() > 0, name


def test_the_detector_s_loss_by_hand():
    """Two cells a side; the target, as large as a cell, lies in the middle of the last of them."""
    maps = torch.zeros(1, 6, 2, 2)
    wanted = torch.tensor([[0.75, 0.75, 0.5, 0.5]])
    loss, hits = detector_loss(maps, wanted)
    # ln 4 for its cell, and errors of ½, ½, 1, 1 in the cell's box
    assert loss == pytest.approx(math.log(4) + 0.75)
    assert hits == 0
    maps[0, :, 1, 1] = torch.tensor([20.0, 0.5, 0.5, 1.0, 1.0, 9.0])
    loss, hits = detector_loss(maps, wanted)
    assert loss == pytest.approx(0.0, abs=1e-6)
    assert hits == 1
