"""Ranges against numpy, as a stream, and only of what a half graph would round."""

import numpy as np
import onnx
import pytest
from rollouts import OUTPUTS, open_graph, roll_out

from relo_edge.calibration.fp16_ranges import find_floats, measure_ranges
from relo_edge.errors import InputError

TENSORS = ["block0/attn/logits", "block0/mlp/gated", "patch_embed", "policy_logits"]


@pytest.fixture(scope="module")
def step(small_bundle):
    return small_bundle.graph("step")


@pytest.fixture(scope="module")
def rows(small_bundle, step):
    template = open_graph(small_bundle.graph("template"))
    return roll_out(small_bundle.variant, template, open_graph(step), frames=3, restart=2)


@pytest.fixture(scope="module")
def ranges(step, rows):
    return measure_ranges(step, (feeds for feeds, _ in rows))


def read_tensors(path, rows):
    """The tensors themselves, over all frames."""
    model = onnx.load(path)
    hidden = [name for name in TENSORS if name not in OUTPUTS]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in hidden)
    session = open_graph(model)
    frames = [dict(zip(TENSORS, session.run(TENSORS, feeds), strict=True)) for feeds, _ in rows]
    return {name: np.stack([f[name] for f in frames]).astype(np.float64) for name in TENSORS}


def test_ranges_are_those_of_the_tensors(ranges, step, rows):
    for name, values in read_tensors(step, rows).items():
        assert ranges[name].largest == pytest.approx(np.abs(values).max(), rel=1e-4)
        assert ranges[name].rms == pytest.approx(np.sqrt((values**2).mean()), rel=1e-4)
        if name in ("block0/mlp/gated", "patch_embed"):
            squares = (values**2).mean(axis=-1).max()
            assert ranges[name].row_square == pytest.approx(squares, rel=1e-4)
        else:
            assert ranges[name].row_square is None


def test_inputs_are_measured_and_weights_are_not(ranges, step, rows):
    states = np.stack([feeds["temporal_tokens"] for feeds, _ in rows])
    assert ranges["temporal_tokens"].largest == pytest.approx(np.abs(states).max())
    model = onnx.load(step)
    assert list(ranges) == find_floats(model)
    assert not set(ranges) & {tensor.name for tensor in model.graph.initializer}
    assert "search" not in ranges


@pytest.mark.slow
def test_samples_are_read_one_at_a_time(ranges, step, rows):
    """Each sample overwrites the one before, as a recorder with one buffer would."""

    def stream():
        feeds = {name: np.empty_like(value) for name, value in rows[0][0].items()}
        for row, _ in rows:
            for name, value in row.items():
                feeds[name][...] = value
            yield feeds

    assert measure_ranges(step, stream()) == ranges


def test_no_samples_are_refused(step):
    with pytest.raises(InputError, match="found no sample"):
        measure_ranges(step, [])
