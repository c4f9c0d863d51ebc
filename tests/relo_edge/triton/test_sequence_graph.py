"""The wrapped graph is the step graph: the same numbers, with START, REWIND and its own window."""

import numpy as np
import onnx
import pytest

from relo_edge.contract import describe_graph
from relo_edge.geometry import hann_window
from relo_edge.graphs.sessions import open_session
from relo_edge.triton.model_tensors import list_inputs, list_outputs, list_states
from relo_edge.triton.sequence_graph import build_sequence_graph

BATCH = 2


@pytest.fixture(scope="module")
def window(small_bundle):
    return hann_window(small_bundle.variant.grid, 2.0)


@pytest.fixture(scope="module")
def step(small_bundle):
    return describe_graph(small_bundle.variant, "step")


@pytest.fixture(scope="module")
def model(small_bundle, step, window):
    return build_sequence_graph(small_bundle.graph("step"), step, window)


@pytest.fixture(scope="module")
def served(model):
    return open_session(model, threads=1)


@pytest.fixture(scope="module")
def plain(small_bundle):
    return open_session(small_bundle.graph("step"), threads=1)


@pytest.fixture(scope="module")
def frames(small_bundle):
    """Inputs of three frames for two streams."""
    random, variant = np.random.default_rng(7), small_bundle.variant
    side = variant.search_size
    tokens = (BATCH, variant.template_tokens, variant.width)
    return [
        {
            "search": random.integers(0, 256, (BATCH, side, side, 3), np.uint8),
            "template_tokens": random.normal(size=tokens).astype(np.float32),
        }
        for _ in range(3)
    ]


def run_served(served, frame, states, start, rewind):
    flags = {
        name: np.array(values, np.float32)[:, None]
        for name, values in (("start", start), ("rewind", rewind))
    }
    names = [output.name for output in served.get_outputs()]
    results = dict(zip(names, served.run(names, {**frame, **states, **flags}), strict=True))
    return results, {name: results[f"{name}_out"] for name in states}


def run_plain(plain, frame, state, has_history, window):
    feeds = {**frame, "temporal_tokens": state, "window": window}
    feeds["has_history"] = np.array(has_history, np.float32)
    names = ["box", "score", "policy_logits", "temporal_tokens_out"]
    return dict(zip(names, plain.run(names, feeds), strict=True))


def assert_equal(served, plain):
    assert np.array_equal(served["box"], plain["box"])
    assert np.array_equal(served["score"], plain["score"][:, None])
    assert np.array_equal(served["policy_logits"], plain["policy_logits"])
    assert np.array_equal(served["temporal_tokens_out"], plain["temporal_tokens_out"])


def test_streams_that_start_and_go_on_in_one_batch(
    small_bundle, step, served, plain, frames, window
):
    shape = (BATCH, *small_bundle.variant.state_shape)
    state = np.zeros(shape, np.float32)
    states = {kept.before.name: state for kept in list_states(step)}
    expected = {"temporal_tokens_out": state}
    for frame, start in zip(frames, ([1, 1], [0, 0], [1, 0]), strict=True):
        has_history = 1 - np.array(start)
        state = expected["temporal_tokens_out"]
        expected = run_plain(plain, frame, state, has_history, window)
        found, states = run_served(served, frame, states, start, [0, 0])
        assert_equal(found, expected)


def test_a_step_back_goes_from_the_state_before(small_bundle, step, served, plain, frames, window):
    shape = (BATCH, *small_bundle.variant.state_shape)
    zeros = np.zeros(shape, np.float32)
    states = {kept.before.name: zeros for kept in list_states(step)}
    first, states = run_served(served, frames[0], states, [1, 1], [0, 0])
    _, states = run_served(served, frames[1], states, [0, 0], [0, 0])
    found, states = run_served(served, frames[2], states, [0, 0], [1, 0])
    went_on = states["temporal_tokens_before"][1]
    assert np.array_equal(states["temporal_tokens_before"][0], first["temporal_tokens_out"][0])
    assert not np.array_equal(went_on, first["temporal_tokens_out"][1])
    expected = run_plain(plain, frames[2], first["temporal_tokens_out"], [1, 1], window)
    assert np.array_equal(found["box"][0], expected["box"][0])
    assert not np.array_equal(found["box"][1], expected["box"][1])


def test_what_a_state_holds_at_the_start_is_never_seen(small_bundle, step, served, frames):
    shape = (BATCH, *small_bundle.variant.state_shape)
    names = [kept.before.name for kept in list_states(step)]
    clean, dirty = (
        run_served(
            served,
            frames[0],
            dict.fromkeys(names, np.full(shape, value, np.float32)),
            [1, 1],
            [0, 0],
        )[0]
        for value in (0, 1e6)
    )
    assert np.array_equal(clean["box"], dirty["box"])


def test_tensors_are_those_that_the_configuration_names(step, model):
    states = list_states(step)
    inputs = [*list_inputs(step), *(kept.before for kept in states)]
    outputs = [*list_outputs(step), *(kept.after for kept in states)]
    for values, specs, more in (
        (model.graph.input, inputs, {"start": [1]}),
        (model.graph.output, outputs, {}),
    ):
        found = {
            value.name: [size.dim_value for size in value.type.tensor_type.shape.dim[1:]]
            for value in values
        }
        assert found == {spec.name: list(spec.shape[1:]) for spec in specs} | more


def test_the_metadata_stays_and_the_graph_is_valid(small_bundle, model):
    kept = {entry.key: entry.value for entry in model.metadata_props}
    step = onnx.load(small_bundle.graph("step"), load_external_data=False)
    assert kept == {entry.key: entry.value for entry in step.metadata_props}
    onnx.checker.check_model(model, full_check=True)
