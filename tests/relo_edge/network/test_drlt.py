"""DRLT's reference network: its sizes, its state, and what a first frame alone may see."""

from dataclasses import replace

import pytest
import torch

from relo_edge.errors import InputError
from relo_edge.network.drlt import Drlt, LstmState, build_drlt, build_fresh_drlt, drlt_shapes
from relo_edge.network.drlt_sizes import (
    DRLT_VARIANTS,
    Convolution,
    DrltVariant,
    build_variant,
    find_drlt_variant,
)

SMALL = build_variant("small", 16, [Convolution(4, 3, 2, pool=2), Convolution(5, 1)], 6, 8)


@pytest.fixture(scope="module")
def network():
    return build_fresh_drlt(SMALL, 1).eval().requires_grad_(False)


def draw_step(batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    frame = torch.randint(0, 256, (batch, 16, 16, 3), dtype=torch.uint8, generator=generator)
    location, hidden, cell = (
        torch.randn(batch, n, generator=generator) for n in (4, SMALL.hidden, SMALL.hidden)
    )
    return frame, location, LstmState(hidden, cell)


def test_the_paper_s_sizes():
    shapes = drlt_shapes(find_drlt_variant("drlt"))
    assert shapes["observation.convolutions.0.weight"] == (64, 3, 7, 7)
    assert shapes["observation.convolutions.23.weight"] == (1024, 1024, 3, 3)
    assert shapes["observation.features.weight"] == (4996, 7 * 7 * 1024)
    assert shapes["observation.joined.weight"] == (5000, 5000)
    assert shapes["recurrent.weight_ih_l0"] == (4 * 5000, 5000)
    assert shapes["recurrent.weight_hh_l0"] == (4 * 5000, 5000)


def test_the_demo_is_small():
    variant = find_drlt_variant("drlt-demo")
    count = sum(torch.Size(shape).numel() for shape in drlt_shapes(variant).values())
    assert variant.hidden <= 512
    assert 2 * count < 2 * 2**20


@pytest.mark.parametrize("variant", [*DRLT_VARIANTS.values(), SMALL], ids=lambda v: v.name)
def test_a_manifest_s_variant_is_the_same_one(variant):
    assert DrltVariant.from_dict(variant.to_dict(), "drlt") == variant


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"channels": (4, 4)}, "last channels: found 4, expected more than 4: a cell's score"),
        ({"hidden": 4}, "hidden: found 4, expected more than the 4 entries"),
        ({"features": 0}, "sizes: found one below 1, expected 1 or more"),
        ({"pools": (2,)}, "convolutions: found 2, 2, 2, 1, expected as many"),
        (
            {"channels": (), "kernels": (), "strides": (), "pools": ()},
            "convolutions: found 0 on a side of 16",
        ),
        ({"frame_size": 1}, "convolutions: found 2 on a side of 1"),
    ],
)
def test_sizes_that_cannot_be_are_refused(wrong, told):
    with pytest.raises(InputError, match=told):
        replace(SMALL, **wrong)


def test_an_unknown_variant():
    with pytest.raises(InputError, match=r"found drlt-big, expected drlt \| drlt-demo"):
        find_drlt_variant("drlt-big")


def test_the_box_is_the_last_of_the_hidden_state(network):
    frame, location, state = draw_step()
    box, after = network(frame, location, state, torch.ones(3))
    assert torch.equal(box, after.hidden[:, -4:])


def test_an_lstm_by_hand(network):
    frame, location, state = draw_step()
    box, after = network(frame, location, state, torch.ones(3))
    observation, lstm = network.observation, network.recurrent
    seen = observation.join(observation.see(observation.detect(frame)), torch.zeros(3, 4))
    gates = seen @ lstm.weight_ih_l0.T + lstm.bias_ih_l0
    gates = gates + state.hidden @ lstm.weight_hh_l0.T + lstm.bias_hh_l0
    enter, forget, new, leave = gates.chunk(4, dim=1)
    cell = forget.sigmoid() * state.cell + enter.sigmoid() * new.tanh()
    assert torch.allclose(after.cell, cell, atol=1e-6)
    assert torch.allclose(after.hidden, leave.sigmoid() * cell.tanh(), atol=1e-6)
    swapped, _ = network(frame, location, LstmState(state.cell, state.hidden), torch.ones(3))
    assert (swapped - box).abs().max() > 1e-3


def test_a_first_frame_sees_the_location_and_no_state(network):
    frame, location, state = draw_step()
    fresh, after = torch.zeros(3), torch.ones(3)
    box, _ = network(frame, location, state, fresh)
    stale = LstmState(torch.full_like(state.hidden, torch.nan), state.cell)
    assert torch.equal(box, network(frame, location, stale, fresh)[0])
    assert (box - network(frame, location + 0.5, state, fresh)[0]).abs().max() > 1e-4
    later, _ = network(frame, location, state, after)
    assert torch.equal(later, network(frame, location + 0.5, state, after)[0])
    assert (later - box).abs().max() > 1e-4


def test_whole_clips_are_the_same_as_their_steps(network):
    generator = torch.Generator().manual_seed(4)
    frames = torch.randint(0, 256, (2, 5, 16, 16, 3), dtype=torch.uint8, generator=generator)
    locations = torch.rand(2, 4, generator=generator)
    state = LstmState(torch.zeros(2, SMALL.hidden), torch.zeros(2, SMALL.hidden))
    boxes = []
    for index in range(5):
        known = torch.full((2,), float(index > 0))
        box, state = network(frames[:, index], locations, state, known)
        boxes.append(box)
    assert torch.allclose(network.follow(frames, locations), torch.stack(boxes, 1), atol=1e-6)


def test_weights_that_do_not_fit_are_refused():
    weights = dict(Drlt(SMALL).state_dict())
    assert build_drlt(SMALL, weights).variant is SMALL
    weights.popitem()
    with pytest.raises(RuntimeError, match="bias_hh_l0"):
        build_drlt(SMALL, weights)
