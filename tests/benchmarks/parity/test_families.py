"""Parity of trackers that are not RELO: with a map and no state, and with two states and no map."""

from contextlib import closing

import numpy as np
import pytest
import torch
from small_sutrack import open_reference
from toy_family import TOY, write_toy

from relo_edge.benchmarks.parity import rollout
from relo_edge.benchmarks.parity.compare import compare_runtimes, run_reference
from relo_edge.benchmarks.parity.layer_errors import GraphSide, walk_layers
from relo_edge.benchmarks.parity.probes import make_script
from relo_edge.benchmarks.parity.rollout import find_segments
from relo_edge.families.registry import FAMILIES
from relo_edge.runtimes.onnxruntime import OnnxRuntime
from relo_edge.runtimes.pytorch import PytorchRuntime


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(rollout, "SEEDS", range(1))
    monkeypatch.setattr(rollout, "FRAMES", 6)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "toy", "toy_family")
        yield write_toy(tmp_path_factory.mktemp("toy"))


def compare(reference, candidate):
    with closing(reference), closing(candidate):
        return compare_runtimes(reference, candidate, run_reference(reference, find_segments([])))


def open_toy():
    return PytorchRuntime(TOY, {"decay": torch.tensor([0.9, 0.8, 0.7, 0.6])})


class Faulty(OnnxRuntime):
    """Feeds one thing wrongly."""

    fault = ""

    def _list_feeds(self, slot, pixels, shared):
        feeds = super()._list_feeds(slot, pixels, shared)
        if self.fault == "swapped":
            feeds["h"], feeds["c"] = feeds["c"], feeds["h"]
        if self.fault == "never first":
            feeds["known"] = np.ones(1, np.float32)
        if self.fault == "always first":
            feeds["known"] = np.zeros(1, np.float32)
        if self.fault == "stale":
            feeds |= slot.next_state
        if self.fault == "no words":
            feeds["text_shift"] = 0 * feeds["text_shift"]
        if self.fault == "upside down":
            feeds["search"] = np.ascontiguousarray(pixels[:, ::-1])
        return feeds


def open_faulty(bundle, fault):
    runtime = Faulty(bundle, "fp32", batch=2)
    runtime.fault = fault
    return runtime


@pytest.mark.slow
def test_two_states_without_a_map_pass(toy):
    result = compare(open_toy(), open_faulty(toy, ""))
    assert result.passed, result.describe()
    assert set(result.outputs) == {"box", "h", "c"}
    assert "state error" in result.describe()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("swapped", "h and c are swapped"),
        ("never first", "zeros as its history|has the history of the one before"),
        ("always first", "every frame is a first frame"),
        ("stale", "first frames agree, these do not: with history"),
    ],
)
def test_a_state_gone_wrong_fails_and_is_named(toy, fault, cause):
    result = compare(open_toy(), open_faulty(toy, fault))
    assert not result.passed
    assert any(word in found.what for found in result.causes for word in cause.split("|")), (
        result.describe()
    )


@pytest.mark.slow
def test_a_map_without_a_state_passes(sutrack_bundle):
    result = compare(open_reference(), OnnxRuntime(sutrack_bundle, "fp32", batch=2))
    assert result.passed, result.describe()
    assert set(result.outputs) == {"box", "score", "score_map"}
    assert "no state is carried" in result.describe()


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "part"), [("no words", "weights"), ("upside down", "geometry")])
def test_a_wrong_map_fails(sutrack_bundle, fault, part):
    result = compare(open_reference(), open_faulty(sutrack_bundle, fault))
    assert not result.passed
    assert "score_map" in result.failures[0]
    assert part in {cause.part for cause in result.causes}, result.describe()


@pytest.mark.slow
def test_layers_are_compared_by_the_contract(toy, sutrack_bundle):
    for bundle in (toy, sutrack_bundle):
        side = GraphSide(bundle, "fp32")
        found = walk_layers(bundle.variant, make_script(bundle.variant)[:3], side, side)
        assert found.births == ()
        assert found.tensors > 5
