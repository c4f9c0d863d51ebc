"""The network's own promises: independent targets, exact first frames, no size assumed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import recipe_network

from relo_edge.network.encoder import foreground_share
from relo_edge.network.fixed_weights import draw_tensor, draw_weights
from relo_edge.network.relo import build_network
from relo_edge.spec import VARIANTS

ODD = replace(
    VARIANTS["demo"],
    name="odd",
    width=96,
    stage_blocks=(2, 1),
    depth=3,
    temporal_tokens=5,
    templates=3,
    head_channels=32,
    search_size=160,
    template_size=96,
)


def random_inputs(variant, batch, seed=0):
    rng = np.random.default_rng(seed)
    side = variant.search_size
    return (
        torch.from_numpy(rng.integers(0, 256, (batch, side, side, 3), np.uint8)),
        torch.from_numpy(
            rng.normal(size=(batch, variant.template_tokens, variant.width)).astype(np.float32)
        ),
        torch.from_numpy(rng.normal(size=(batch, *variant.state_shape)).astype(np.float32)),
    )


@pytest.fixture(scope="module")
def odd_network():
    return build_network(ODD, draw_weights(ODD))


def test_sizes_come_from_the_variant(odd_network):
    search, tokens, state = random_inputs(ODD, 2)
    maps, new_state = odd_network(search, tokens, state, torch.ones(2))
    assert maps.policy_logits.shape == (2, 10, 10)
    assert maps.sizes.shape == maps.offsets.shape == (2, 2, 10, 10)
    assert new_state.shape == state.shape
    template = torch.zeros(3, 96, 96, 3, dtype=torch.uint8)
    assert odd_network.encode_template(template, torch.rand(3, 4)).shape == (3, 36, 96)


def test_targets_in_a_batch_do_not_touch_each_other():
    variant = VARIANTS["demo"]
    network = recipe_network("demo")
    search, tokens, state = random_inputs(variant, 3)
    history = torch.tensor([1.0, 0.0, 1.0])
    maps, new_state = network(search, tokens, state, history)
    for row in range(3):
        one = slice(row, row + 1)
        alone, alone_state = network(search[one], tokens[one], state[one], history[one])
        torch.testing.assert_close(maps.policy_logits[one], alone.policy_logits, atol=1e-5, rtol=0)
        torch.testing.assert_close(new_state[one], alone_state, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("garbage", [0.0, 1e30, float("inf"), float("nan")])
def test_a_first_frame_ignores_whatever_the_state_holds(odd_network, garbage):
    search, tokens, state = random_inputs(ODD, 1)
    clean, _ = odd_network(search, tokens, state, torch.zeros(1))
    dirty, _ = odd_network(search, tokens, torch.full_like(state, garbage), torch.zeros(1))
    torch.testing.assert_close(clean.policy_logits, dirty.policy_logits, atol=0, rtol=0)


def test_history_changes_the_answer(odd_network):
    search, tokens, state = random_inputs(ODD, 1)
    first, _ = odd_network(search, tokens, state, torch.zeros(1))
    later, _ = odd_network(search, tokens, state, torch.ones(1))
    assert (first.policy_logits - later.policy_logits).abs().max() > 1e-3


def test_the_first_entry_of_the_state_is_constant(odd_network):
    search, tokens, state = random_inputs(ODD, 1)
    _, one = odd_network(search, tokens, state, torch.ones(1))
    search, tokens, state = random_inputs(ODD, 1, seed=9)
    _, other = odd_network(search, tokens, state, torch.ones(1))
    torch.testing.assert_close(one[:, 0], other[:, 0], atol=0, rtol=0)
    assert (one[:, 1] - other[:, 1]).abs().max() > 1e-3


def test_foreground_share_counts_pixels():
    variant = replace(VARIANTS["demo"], template_size=32, search_size=64)
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.25, 0.0, 0.5, 0.5], [0.9, 0.9, 0.0, 0.0]])
    shares = foreground_share(boxes, variant)
    expected = torch.tensor([[1.0, 1, 1, 1], [0.5, 0.5, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(shares, expected)


def test_the_recipe_never_changes():
    drawn = draw_tensor("decoder.conv5_size.bias", (2,))
    np.testing.assert_allclose(drawn, [-1.0968415, -1.0958089], rtol=0, atol=5e-2)
    assert draw_tensor("x.num_batches_tracked", ()).dtype == np.int64
    assert not np.array_equal(draw_tensor("a.weight", (3, 3)), draw_tensor("a.weight", (3, 3), 2))
