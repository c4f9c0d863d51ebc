"""A replica's streams: each is answered from its own state, or refused."""

import numpy as np
import pytest

from relo_edge import open_runtime
from relo_edge.errors import DeviceError, ReloError
from relo_edge.fleet import stream_table as streams_module
from relo_edge.fleet.messages import Ask, Refusal, TemplateCrop
from relo_edge.fleet.stream_table import StreamTable


@pytest.fixture
def runtime(small_bundle):
    with open_runtime(small_bundle, "onnxruntime", batch=2, threads=1) as runtime:
        yield runtime


@pytest.fixture
def table(runtime):
    return StreamTable(runtime, runtime.variant.protocol())


def draw(seed, size):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def ask(table, stream, steps, seed=0):
    variant = table._runtime.variant
    box = np.array([0.25, 0.25, 0.5, 0.5], np.float32)
    target = {} if steps else {0: TemplateCrop(draw(hash(stream) % 99, variant.template_size), box)}
    return Ask(stream, steps, target, draw(seed, variant.search_size))


def follow(table, stream, count, first=0):
    return [table.answer([ask(table, stream, n, seed=n)])[0] for n in range(first, count)]


def test_streams_in_one_batch_equal_each_alone(table, runtime):
    together = [
        table.answer([ask(table, "a", n, seed=n), ask(table, "b", n, seed=n)]) for n in range(3)
    ]
    for row, stream in enumerate("ab"):
        table.answer([Ask(stream, 3)])
        alone = follow(table, stream, 3)
        for one, other in zip(alone, together, strict=True):
            assert np.array_equal(one["box"], other[row]["box"])
            assert np.array_equal(one["policy_logits"], other[row]["policy_logits"])


def test_a_stream_that_is_not_known_is_refused(table):
    (reply,) = table.answer([ask(table, "a", 3)])
    assert reply == Refusal("the replica does not hold the stream")
    assert len(table) == 0


def test_a_state_that_the_client_does_not_expect_is_refused(table):
    follow(table, "a", 2)
    (reply,) = table.answer([ask(table, "a", 1)])
    assert "2 steps here, 1 at the client" in reply.reason


def test_a_second_try_in_the_same_batch_comes_after_the_first(table):
    follow(table, "a", 1)
    first, second = table.answer([ask(table, "a", 1), ask(table, "a", 1)])
    assert "box" in first
    assert "2 steps here, 1 at the client" in second.reason


def test_a_stream_starts_with_its_target(table):
    variant = table._runtime.variant
    (reply,) = table.answer([Ask("a", 0, {}, draw(0, variant.search_size))])
    assert reply == Refusal("a stream starts with all of its target")


def test_a_stream_too_many_is_refused_and_a_silent_one_makes_room(table, monkeypatch):
    for stream in "ab":
        follow(table, stream, 1)
    (reply,) = table.answer([ask(table, "c", 0)])
    assert reply.full
    monkeypatch.setattr(streams_module, "IDLE_SECONDS", 0.0)
    assert len(follow(table, "c", 1)) == 1
    assert len(table) == 2
    (reply,) = table.answer([ask(table, "a", 1)])
    assert reply == Refusal("the replica does not hold the stream")


def test_a_stream_that_ends_makes_room(table):
    for stream in "ab":
        follow(table, stream, 1)
    assert table.answer([Ask("a", 1)]) == [None]
    assert "box" in follow(table, "c", 1)[0]
    assert len(table) == 2


def test_an_answer_that_is_not_finite_leaves_the_state(table, runtime, monkeypatch):
    expected = follow(table, "a", 3)
    table.answer([Ask("a", 3)])
    follow(table, "a", 2)
    step = runtime.step

    def spoil(*inputs):
        result = step(*inputs)
        result.boxes[:] = np.nan
        return result

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "step", spoil)
        (reply,) = table.answer([ask(table, "a", 2, seed=9)])
    assert np.isnan(reply["box"]).all()
    (reply,) = table.answer([ask(table, "a", 2, seed=2)])
    assert np.array_equal(reply["box"], expected[2]["box"])


def test_a_step_that_fails_drops_its_streams_alone(table, runtime, monkeypatch):
    for stream in "ab":
        follow(table, stream, 1)

    def fail(*_inputs):
        raise DeviceError("the GPU is gone")

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "step", fail)
        (reply,) = table.answer([ask(table, "a", 1)])
    assert isinstance(reply, DeviceError)
    replies = table.answer([ask(table, "a", 1), ask(table, "b", 1)])
    assert isinstance(replies[0], Refusal)
    assert "box" in replies[1]


def test_a_template_that_cannot_be_harms_nobody_else(table):
    follow(table, "b", 1)
    good = ask(table, "a", 0)
    crop = TemplateCrop(draw(0, 3), good.target[0].box)
    first, second = table.answer([Ask("a", 0, {0: crop}, good.pixels), ask(table, "b", 1)])
    assert isinstance(first, ReloError)
    assert "box" in second
    assert len(table) == 1
