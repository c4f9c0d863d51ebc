"""Explanations: what is right passes, what is wrong is named, the node if nothing else."""

import numpy as np
import pytest
from fault_changes import MEAN, STD, perturb_all, renormalise, scale_weights
from faulty_runtime import FaultyRuntime, tamper

from relo_edge.benchmarks.parity import rollout
from relo_edge.benchmarks.parity.compare import compare_runtimes, run_reference
from relo_edge.benchmarks.parity.layer_errors import GraphSide, walk_layers
from relo_edge.benchmarks.parity.mistakes import Mistake, replay
from relo_edge.benchmarks.parity.probes import make_script, run_script
from relo_edge.benchmarks.parity.rollout import find_segments
from relo_edge.benchmarks.parity.state_mistakes import list_state_mistakes
from relo_edge.contract import describe_graph
from relo_edge.runtime import open_runtime

pytestmark = pytest.mark.slow

BOTH = ("template", "step")
ODD = renormalise(4.0, -2.2)
perturb_one = scale_weights(1.01, "block1/mlp/w3/weight")


@pytest.fixture(scope="module")
def reference(small_bundle):
    return open_runtime(small_bundle.path, "pytorch")


@pytest.fixture(scope="module")
def alone(reference):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollout, "SEEDS", range(1))
        patch.setattr(rollout, "FRAMES", 4)
        return run_reference(reference, find_segments([]))


def walk(bundle, spoilt, scene="plain"):
    steps = [step for step in make_script(bundle.variant) if step.scene == scene][:3]
    sides = GraphSide(bundle, "fp32"), GraphSide(spoilt, "fp32")
    return walk_layers(bundle.variant, steps, *sides)


def test_the_tampering_itself_is_exact(reference, alone, small_bundle, tmp_path):
    """The right normalisation, put in the same way, changes nothing."""
    right = renormalise(1 / STD, -MEAN / STD)
    same = tamper(small_bundle, tmp_path / "same", template=right, step=right)
    result = compare_runtimes(reference, FaultyRuntime(same), alone)
    assert result.passed
    assert result.causes == ()


def test_an_unexplained_failure_compares_the_graphs_by_itself(
    reference, alone, small_bundle, tmp_path
):
    spoilt = tamper(small_bundle, tmp_path / "spoilt", step=perturb_one)
    asked = []

    def compare(steps):
        asked.append(steps)
        return walk(small_bundle, spoilt)

    result = compare_runtimes(reference, FaultyRuntime(spoilt), alone, walk=compare)
    assert len(asked) == 1
    assert [len(steps) for steps in asked] == [3]
    assert [cause.part for cause in result.causes] == ["layers"]
    assert "begins in step: block1/mlp/w3/matmul (MatMul)" in result.describe()
    assert result.to_dict()["layers"]["births"][0]["node"] == "block1/mlp/w3/matmul"


def test_without_graphs_the_part_alone_is_named(reference, alone, small_bundle, tmp_path):
    names = dict.fromkeys(BOTH, perturb_all)
    spoilt = tamper(small_bundle, tmp_path / "spoilt", **names)
    (cause,) = compare_runtimes(reference, FaultyRuntime(spoilt), alone).causes
    assert (cause.part, cause.exact) == ("weights", False)


def test_sound_graphs_point_to_the_runtime(reference, alone, small_bundle):
    class Noisy(FaultyRuntime):
        def _run_step(self, slot, feeds):
            answer = super()._run_step(slot, feeds)
            logits = answer["policy_logits"]
            noise = 0.3 * np.random.default_rng(0).standard_normal(logits.shape)
            return answer | {"policy_logits": (logits + noise).astype(np.float32)}

    result = compare_runtimes(
        reference, Noisy(small_bundle), alone, walk=lambda _: walk(small_bundle, small_bundle)
    )
    assert [cause.part for cause in result.causes] == ["weights", "runtime"]
    assert not any(cause.exact for cause in result.causes)
    assert "the runtime feeds or runs them wrong" in result.describe()


def test_an_explained_failure_compares_no_graphs(reference, alone, small_bundle, tmp_path):
    change = renormalise(1, 0)
    spoilt = tamper(small_bundle, tmp_path / "spoilt", template=change, step=change)
    result = compare_runtimes(reference, FaultyRuntime(spoilt), alone, walk=pytest.fail)
    assert "only divided by 255" in result.describe()
    assert result.layers is None


def test_layers_find_the_one_weight(small_bundle, tmp_path):
    spoilt = tamper(small_bundle, tmp_path / "spoilt", step=perturb_one)
    found = walk(small_bundle, spoilt)
    assert found.births[0].node == "block1/mlp/w3/matmul"
    assert found.births[0].error == pytest.approx(0.01, rel=0.1)
    assert found.births[0].before < 1e-5


def test_layers_find_where_an_odd_normalisation_comes_in(small_bundle, tmp_path):
    found = walk(small_bundle, tamper(small_bundle, tmp_path / "spoilt", step=ODD))
    assert found.births[0].node.startswith("patch_embed")
    assert "where pixels enter: their normalisation" in found.describe()


def test_layers_of_equal_graphs_have_no_births(demo_bundle):
    found = walk(demo_bundle, demo_bundle)
    assert found.births == found.growth == ()
    assert found.tensors > 200
    assert "no error begins" in found.describe()


def test_a_replay_without_a_mistake_is_the_reference(reference, small_bundle):
    """Also where the state is taken out and put back: an explanation proves only then something."""
    contract = describe_graph(small_bundle.variant, "step")
    steps = make_script(small_bundle.variant)[:8]
    right = list(run_script(contract, reference, steps))
    same_state = Mistake("", "", state=lambda past, _: past[-1] if past else None)
    for mistake in (Mistake("", ""), same_state):
        for want, got in zip(right, replay(contract, reference, steps, mistake), strict=True):
            assert all(np.array_equal(want[name], got[name]) for name in want)


def test_every_state_mistake_changes_something(reference, small_bundle):
    """But rounding of the state: a mistake that does nothing would explain nothing."""
    contract = describe_graph(small_bundle.variant, "step")
    steps = make_script(small_bundle.variant)[:8]
    right = list(run_script(contract, reference, steps))
    for mistake in list_state_mistakes(contract):
        if mistake.part == "template" and mistake.keeps_first_template:
            continue
        changed = [
            np.abs(want[name] - got[name]).max()
            for want, got in zip(right, replay(contract, reference, steps, mistake), strict=True)
            for name in ("policy_logits", "temporal_tokens")
        ]
        assert max(changed) > 0, mistake.what
