"""The network against numbers recorded from the authors' release: the root of all parity."""

import json

import numpy as np
import pytest
import torch
from support import DATA, load_vectors, recipe_network

from relo_edge.network.relo import state_shapes
from relo_edge.spec import VARIANTS

MAP_TOLERANCE = 2e-5
TOKEN_TOLERANCE = 1e-5  # of the largest entry
GARBAGE = 1e6

RELEASED = ["t256", "b256", pytest.param("l256", marks=pytest.mark.slow)]
# The largest only as far as a state that is carried.
FRAMES = {"t256": 4, "b256": 4, "l256": 2}


def carry_faithfully(states, _frame):
    return states[-1]


def carry_stale(states, _frame):
    return states[0]


def carry_deepest_layer(states, _frame):
    """Deep to shallow: every layer is handed the last layer's tokens."""
    return states[-1][:, -1:].expand_as(states[-1]).contiguous()


def run_frames(variant, frames, carry=carry_faithfully, first_state=None):
    """Errors of each output over consecutive frames, the worst of them kept."""
    vectors, network = load_vectors(f"step_{variant}"), recipe_network(variant)
    spec = VARIANTS[variant]
    worst = {"maps": 0.0, "value": 0.0, "tokens": 0.0}
    with torch.inference_mode():
        tokens = network.encode_template(
            torch.from_numpy(vectors["templates"]), torch.from_numpy(vectors["template_boxes_xywh"])
        )
        tokens = tokens.flatten(0, 1).unsqueeze(0)
        states, has_history = [torch.full((1, *spec.state_shape), GARBAGE)], torch.zeros(1)
        if first_state is not None:
            states, has_history = [first_state], torch.ones(1)
        for frame in range(frames):
            search = torch.from_numpy(vectors["searches"][frame : frame + 1])
            state = states[0] if frame == 0 else carry(states[1:], frame)
            maps, new_state = network(search, tokens, state, has_history)
            states.append(new_state)
            has_history = torch.ones(1)
            value = network.value_model(maps.features)
            note_errors(worst, vectors, frame, maps, value, new_state)
    return worst


def note_errors(worst, vectors, frame, maps, value, state):
    for name, got in [
        ("policy_logits", maps.policy_logits),
        ("size_map", maps.sizes),
        ("offset_map", maps.offsets),
    ]:
        error = np.abs(got[0].numpy() - vectors[f"{name}_{frame}"]).max()
        worst["maps"] = max(worst["maps"], float(error))
    value_error = np.abs(value.numpy() - vectors[f"value_{frame}"]).max()
    worst["value"] = max(worst["value"], float(value_error))
    for got, want in [
        (state[0, :, 0].numpy(), vectors[f"temporal_first_token_{frame}"]),
        (state[0].norm(dim=-1).numpy(), vectors[f"temporal_norms_{frame}"]),
    ]:
        error = np.abs(got - want).max() / np.abs(want).max()
        worst["tokens"] = max(worst["tokens"], float(error))


def is_equal(worst) -> bool:
    return (
        worst["maps"] <= MAP_TOLERANCE
        and worst["value"] <= MAP_TOLERANCE
        and worst["tokens"] <= TOKEN_TOLERANCE
    )


@pytest.mark.parametrize("variant", RELEASED)
def test_every_name_and_shape_is_the_releases(variant):
    released = json.loads((DATA / f"keys_{variant}.json").read_text())
    assert state_shapes(VARIANTS[variant]) == {n: tuple(s) for n, s in released.items()}


@pytest.mark.slow
@pytest.mark.parametrize("variant", RELEASED)
def test_frames_equal_the_release_whatever_the_first_state_holds(variant):
    worst = run_frames(variant, FRAMES[variant])
    assert is_equal(worst), worst


@pytest.mark.slow
@pytest.mark.parametrize("carry", [carry_stale, carry_deepest_layer])
def test_a_wrongly_carried_state_is_noticed(carry):
    assert not is_equal(run_frames("t256", 4, carry=carry))


@pytest.mark.slow
def test_a_zero_initial_state_is_noticed():
    zeros = torch.zeros(1, *VARIANTS["t256"].state_shape)
    assert not is_equal(run_frames("t256", frames=1, first_state=zeros))


@pytest.mark.parametrize(
    ("variant", "millions"), [("t256", 30.25), ("b256", 92.25), ("l256", 322.19)]
)
def test_the_parameters_are_as_many_as_published(variant, millions):
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    count = sum(
        int(np.prod(shape, dtype=int))
        for name, shape in state_shapes(VARIANTS[variant]).items()
        if not name.endswith(buffers)
    )
    assert round(count / 1e6, 2) == millions
