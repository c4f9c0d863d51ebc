"""What each stage may change, and what it must not."""

import pytest
import torch
from small_training import copy_state, small_batch, small_network, take_steps

from relo_edge.errors import InputError
from relo_edge.training.reinforce import ALGORITHMS, Reinforce
from relo_edge.training.rollout import roll_out, shift_logits
from relo_edge.training.warmup import Warmup, copy_centre_to_policy, score_centres


def list_changed(before, network):
    """The parts with a weight or a statistic that is not what it was, to the bit."""
    after = network.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_reinforcement_moves_two_heads_and_not_a_bit_else(algorithm):
    network = small_network()
    before = copy_state(network)
    take_steps(network, Reinforce(algorithm, group=2), frames=3)
    assert list_changed(before, network) == {"policy_model", "value_model"}


def test_the_papers_warmup_leaves_policy_value_and_centre_alone():
    network = small_network()
    before = copy_state(network)
    take_steps(network, Warmup(), frames=1)
    assert list_changed(before, network) == {"encoder", "decoder"}
    for name, value in network.named_parameters():
        if ".conv" in name and name.endswith("_ctr.weight"):
            assert value.grad is None or not value.grad.any()


def test_the_encoder_learns_at_its_share_of_the_rate():
    encoder, rest = Warmup(encoder_rate=0.1).group_parameters(small_network())
    assert (encoder["scale"], rest["scale"]) == (0.1, 1.0)


def test_temporal_tokens_carry_no_gradient_to_earlier_frames():
    """The second frame's gradient is what it is when the first ran without one."""
    network, batch = small_network().eval(), small_batch(frames=2)
    *_, (_, second) = roll_out(network, batch)
    second.sizes.sum().backward()
    carried = network.encoder.body.ttokens.grad.clone()
    network.zero_grad()
    with torch.no_grad():
        tokens = network.encode_template(batch.templates, batch.template_boxes)
        fresh = torch.zeros(3, *network.variant.state_shape)
        _, state = network(batch.searches[:, 0], tokens, fresh, torch.zeros(3))
    tokens = network.encode_template(batch.templates, batch.template_boxes)
    alone, _ = network(batch.searches[:, 1], tokens, state, torch.ones(3))
    alone.sizes.sum().backward()
    assert torch.allclose(carried, network.encoder.body.ttokens.grad, rtol=1e-4, atol=1e-7)


def test_the_state_is_carried_all_the_same():
    network, batch = small_network().eval(), small_batch(frames=2)
    swapped = small_batch(frames=2)
    swapped.searches[:, 0] = swapped.searches[:, 0].flip(1)
    with torch.no_grad():
        _, kept = list(roll_out(network, batch))
        _, other = list(roll_out(network, swapped))
    assert not torch.equal(kept[1].policy_logits, other[1].policy_logits)


def test_adopted_centres_are_the_policy():
    network, batch = small_network().eval(), small_batch(frames=1)
    copy_centre_to_policy(network)
    with torch.no_grad():
        ((_, maps),) = roll_out(network, batch)
        assert torch.allclose(maps.policy_logits, score_centres(network, maps), atol=1e-6)


def test_a_levelled_policy_is_the_same_above_zero():
    network, batch = small_network().eval(), small_batch(frames=1)
    with torch.no_grad():
        ((_, before),) = roll_out(network, batch)
        shift_logits(network, batch)
        ((_, after),) = roll_out(network, batch)
    lowest = after.policy_logits.flatten(1).amin(dim=1)
    assert float(lowest.mean()) == pytest.approx(0, abs=1e-5)
    shift = after.policy_logits - before.policy_logits
    assert torch.allclose(shift, shift.flatten()[0], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_pays_becomes_more_likely(algorithm):
    """A world in which one cell alone has the right box: every algorithm must find it."""
    torch.manual_seed(0)
    network = small_network()
    batch = small_batch(clips=8, frames=2)
    batch.boxes[:] = torch.tensor([0.125 + 0.25, 0.125, 0.25, 0.25])
    batch.seen[:] = True
    with torch.no_grad():
        network.decoder.conv5_size.weight.zero_()
        network.decoder.conv5_offset.weight.zero_()
        network.decoder.conv5_offset.bias.fill_(0.5)
    stage = Reinforce(algorithm, group=4)
    optimizer = torch.optim.AdamW(stage.group_parameters(network), 1e-2)
    stage.set_mode(network)
    rewards = []
    for _ in range(40):
        loss, shown = stage.learn(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(float(shown["iou"]))
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


def test_the_policy_that_acts_is_renewed_every_few_steps():
    stage, network = Reinforce("ppo", refresh=2), small_network()
    stage.group_parameters(network)
    acting = [stage._take_acting(network) for _ in range(3)]
    assert acting[0] is acting[1]
    assert acting[1] is not acting[2]
    assert acting[0] is not network.policy_model


def test_its_age_is_counted_in_steps_and_not_in_their_parts():
    stage, network = Reinforce("grpo", refresh=2, parts=3), small_network()
    acting = [stage._take_acting(network) for _ in range(7)]
    assert all(one is acting[0] for one in acting[:6])
    assert acting[6] is not acting[0]


def test_unknown_algorithms_are_refused():
    with pytest.raises(InputError, match=r"found sarsa, expected actor-critic \| ppo \| grpo"):
        Reinforce("sarsa")
