"""The script of probes: every kind of step, windows that decide, two targets side by side."""

import numpy as np
import pytest

from relo_edge.benchmarks.parity.probes import (
    count_probe_steps,
    make_script,
    prepare_probes,
    run_probes,
)
from relo_edge.clips.hard_targets import HARD_TARGETS
from relo_edge.runtime import open_runtime
from relo_edge.spec import VARIANTS


@pytest.fixture(scope="module")
def steps():
    return make_script(VARIANTS["demo"])


def test_every_target_and_kind_of_step_is_in_it(steps):
    assert len(steps) == count_probe_steps()
    assert list(dict.fromkeys(step.scene for step in steps)) == list(HARD_TARGETS)
    first = [step for step in steps if step.scene == "plain"]
    assert [step.label for step in first] == [
        "first frame",
        *["with history"] * 3,
        "after a rewind",
        "after a template update",
        "after forget",
    ]
    assert [step.rewind for step in first].index(True) == 4
    for scene in HARD_TARGETS:
        start = next(step for step in steps if step.scene == scene)
        assert start.forget
        assert start.templates


def test_the_script_is_the_same_each_time(steps):
    for one, other in zip(steps, make_script(VARIANTS["demo"]), strict=True):
        assert np.array_equal(one.search, other.search)
        assert np.array_equal(one.window, other.window)


def test_random_windows_differ_and_have_no_symmetry(steps):
    random = [step.window for step in steps if not step.plain_window]
    assert len({window.tobytes() for window in random}) == len(random)
    for window in random:
        assert window.min() > 0
        assert window.max() <= 1
        for turned in (window.T, window[::-1], window[:, ::-1]):
            assert not np.allclose(window, turned)


def test_crops_differ_from_step_to_step(steps):
    assert len({step.search.tobytes() for step in steps if step.scene == "plain"}) == 4


@pytest.mark.slow
def test_a_template_variant_gets_all_its_templates():
    variant = VARIANTS["b256"]
    start = make_script(variant)[0]
    assert [template.place for template in start.templates] == list(range(variant.templates))
    assert start.search.shape == (variant.search_size, variant.search_size, 3)


@pytest.mark.slow
def test_two_targets_are_compared_where_there_is_room(small_bundle):
    reference = open_runtime(small_bundle.path, "pytorch")
    probes = prepare_probes(reference, reference.variant)
    two = run_probes(probes, open_runtime(small_bundle.path, "onnxruntime", batch=2))
    one = run_probes(probes, open_runtime(small_bundle.path, "onnxruntime"))
    assert (len(two.slots), len(one.slots)) == (6, 0)
    assert [pair.fresh for pair in two.slots] == [True, True, False, False, False, False]
    for pair in [*two.pairs, *two.slots]:
        assert pair.same_cell
        assert pair.measure_error("temporal_tokens") < 1e-5
