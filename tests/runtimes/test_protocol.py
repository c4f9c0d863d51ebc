"""One suite for every runtime: what the protocol promises, held against the reference."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from recording_device import open_recorded
from small_relo import SMALL
from support import GRAPHS, read_temporal

from relo_edge.bundle import open_bundle
from relo_edge.contract import EngineGraph
from relo_edge.errors import InputError, MissingDependency, ReloError
from relo_edge.geometry import hann_window
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.onnxruntime_gpu import OnnxGpuRuntime
from relo_edge.runtimes.tensorrt.engines import build_engines, open_target

WINDOW = hann_window(SMALL.grid, 2.0)
TOLERANCE = 1e-4


def open_bound(bundle, batch):
    """The GPU runtime's buffers and bindings on onnxruntime's CPU provider."""
    name, provider = "onnxruntime-cuda", "CPUExecutionProvider"
    return OnnxGpuRuntime(bundle, "fp32", name, provider, batch=batch, device="cpu")


def open_engines(name):
    """A runtime whose engines are built first, on this machine's GPU."""

    def build_and_open(bundle, batch):
        with TemporaryDirectory() as folder:
            shutil.copytree(bundle.path, Path(folder) / "b")
            copy = open_bundle(Path(folder) / "b")
            graphs = {graph: EngineGraph(copy.graph(graph), "float32") for graph in GRAPHS}
            try:
                target = open_target(name, f"1-{batch}", None)
            except MissingDependency as error:
                pytest.skip(str(error))
            build_engines(copy, "fp32", graphs, target)
            return open_runtime(copy, name, "fp32", batch=batch)

    return build_and_open


OPENERS = {
    "pytorch": lambda b, batch: open_runtime(b.path, "pytorch", batch=batch),
    "onnxruntime": lambda b, batch: open_runtime(b.path, "onnxruntime", batch=batch),
    "openvino": lambda b, batch: open_runtime(b.path, "openvino", "fp32", batch=batch),
    "io-binding": open_bound,
    "tensorrt-recorded": open_recorded,
    "onnxruntime-cuda": pytest.param(
        lambda b, batch: open_runtime(b.path, "onnxruntime-cuda", batch=batch),
        marks=pytest.mark.gpu,
    ),
    **{
        name: pytest.param(open_engines(name), marks=pytest.mark.gpu)
        for name in ("tensorrt", "tensorrt-rtx")
    },
}


@pytest.fixture(params=OPENERS.values(), ids=OPENERS.keys())
def open_new(request, small_bundle):
    return lambda batch=1: request.param(small_bundle, batch)


@pytest.fixture(scope="module")
def opened():
    runtimes = {}
    yield runtimes
    for runtime in runtimes.values():
        runtime.close()


@pytest.fixture
def opener(request, open_new, opened):
    """Gives a runtime as the test before has left it: engines take minutes to build."""
    kind = request.node.callspec.params["open_new"]

    def open_once(batch=1):
        if (kind, batch) not in opened:
            opened[kind, batch] = open_new(batch)
        return opened[kind, batch]

    return open_once


@pytest.fixture(scope="module")
def inputs():
    rng = np.random.default_rng(3)
    side, size = SMALL.search_size, SMALL.template_size
    searches = rng.integers(0, 256, (6, 3, side, side, 3), np.uint8)
    templates = rng.integers(0, 256, (3, size, size, 3), np.uint8)
    return searches, templates, np.array([0.25, 0.2, 0.5, 0.6], np.float32)


def start(runtime, slot, inputs, template=None):
    _, templates, box = inputs
    runtime.encode_template(slot, 0, templates[slot if template is None else template], box)
    runtime.forget(slot)


def run(runtime, inputs, slots, frames):
    searches = inputs[0]
    return [runtime.step(slots, searches[frame, slots], WINDOW) for frame in frames]


def assert_same(got, expected, rows=slice(None)):
    """Errors relative to the largest value: float32 on a GPU sums in another order."""
    for name in ("boxes", "scores", "maps"):
        want = getattr(expected, name)[rows]
        limit = TOLERANCE * max(1.0, float(np.abs(want).max()))
        np.testing.assert_allclose(getattr(got, name), want, rtol=0, atol=limit)


def differ(one, other):
    return np.abs(one.maps - other.maps).max() > 1e-3


@pytest.fixture(scope="module")
def expected(small_bundle, inputs):
    """Three targets through the reference, six frames, each in a runtime of its own."""
    answers = []
    for slot in range(3):
        runtime = open_runtime(small_bundle.path, "pytorch", batch=3)
        start(runtime, slot, inputs)
        answers.append(run(runtime, inputs, [slot], range(6)))
    return answers


@pytest.mark.slow
def test_one_target_equals_the_reference(opener, inputs, expected):
    runtime = opener()
    start(runtime, 0, inputs)
    for got, want in zip(run(runtime, inputs, [0], range(6)), expected[0], strict=True):
        assert_same(got, want)


@pytest.mark.slow
def test_a_batch_equals_each_target_alone(opener, inputs, expected):
    runtime = opener(3)
    for slot in range(3):
        start(runtime, slot, inputs)
    for frame, together in enumerate(run(runtime, inputs, [0, 1, 2], range(6))):
        for slot in range(3):
            one = type(together)(
                together.boxes[slot : slot + 1],
                together.scores[slot : slot + 1],
                together.maps[slot : slot + 1],
            )
            assert_same(one, expected[slot][frame])


@pytest.mark.slow
def test_a_restart_leaves_the_others_untouched(opener, inputs, expected):
    runtime = opener(2)
    start(runtime, 0, inputs)
    start(runtime, 1, inputs)
    run(runtime, inputs, [0, 1], range(3))
    start(runtime, 0, inputs)
    searches = inputs[0]
    mixed = np.stack([searches[0, 0], searches[3, 1]])
    answer = runtime.step([0, 1], mixed, WINDOW)
    np.testing.assert_allclose(answer.scores[0], expected[0][0].scores[0], atol=TOLERANCE)
    np.testing.assert_allclose(answer.scores[1], expected[1][3].scores[0], atol=TOLERANCE)


@pytest.mark.slow
def test_a_target_that_sits_out_keeps_its_state(opener, inputs, expected):
    runtime = opener(2)
    start(runtime, 0, inputs)
    start(runtime, 1, inputs)
    run(runtime, inputs, [0, 1], [0])
    run(runtime, inputs, [1], [1, 2, 3])
    assert_same(run(runtime, inputs, [0], [1])[0], expected[0][1])
    assert_same(run(runtime, inputs, [1], [4])[0], expected[1][4])


@pytest.mark.slow
def test_slots_may_come_in_any_order(opener, inputs, expected):
    runtime = opener(3)
    for slot in (2, 0):
        start(runtime, slot, inputs)
    answer = run(runtime, inputs, [2, 0], [0])[0]
    np.testing.assert_allclose(answer.scores[0], expected[2][0].scores[0], atol=TOLERANCE)
    np.testing.assert_allclose(answer.scores[1], expected[0][0].scores[0], atol=TOLERANCE)


@pytest.mark.slow
def test_history_and_template_both_matter(opener, inputs):
    runtime = opener()
    start(runtime, 0, inputs)
    later = run(runtime, inputs, [0], [0, 1])[1]
    runtime.forget(0)
    first = run(runtime, inputs, [0], [1])[0]
    assert differ(first, later)
    start(runtime, 0, inputs, template=1)
    assert differ(run(runtime, inputs, [0], [1])[0], first)


def assert_identical(got, expected):
    for name in ("boxes", "scores", "maps"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


@pytest.mark.slow
def test_a_step_taken_back_never_happened(opener, inputs):
    runtime = opener()
    start(runtime, 0, inputs)
    run(runtime, inputs, [0], [0])
    state = read_temporal(runtime, 0)
    straight = run(runtime, inputs, [0], [1])[0]
    assert differ(straight, run(runtime, inputs, [0], [1])[0])
    start(runtime, 0, inputs)
    run(runtime, inputs, [0], [0])
    for passing in (1, 2, 3, 1):
        answer = run(runtime, inputs, [0], [passing])[0]
        runtime.rewind(0)
        np.testing.assert_array_equal(read_temporal(runtime, 0), state)
    assert_identical(answer, straight)
    assert_identical(run(runtime, inputs, [0], [1])[0], straight)


@pytest.mark.slow
def test_a_first_frame_taken_back_is_a_first_frame_again(opener, inputs):
    runtime = opener()
    start(runtime, 0, inputs)
    first = run(runtime, inputs, [0], [0])[0]
    for other in (3, 4):
        run(runtime, inputs, [0], [other])  # whose state must not come back as a history
        runtime.forget(0)
        for frame in (1, 2):
            run(runtime, inputs, [0], [frame])
            runtime.rewind(0)
        assert_identical(run(runtime, inputs, [0], [0])[0], first)


@pytest.mark.slow
def test_only_a_step_just_made_is_taken_back_and_once(opener, inputs):
    runtime = opener(2)
    for slot in (0, 1):
        start(runtime, slot, inputs)

    def refuse():
        with pytest.raises(InputError, match="slot 0 cannot be rewound: found no part of it"):
            runtime.rewind(0)

    refuse()
    run(runtime, inputs, [0, 1], [0])
    runtime.rewind(0)
    refuse()
    run(runtime, inputs, [0, 1], [0])
    runtime.forget(0)
    refuse()
    run(runtime, inputs, [0], [0])
    run(runtime, inputs, [1], [1])
    refuse()
    run(runtime, inputs, [0, 1], [2])


@pytest.mark.slow
@pytest.mark.parametrize("back", [(0,), (1,), (2, 0), (0, 1, 2)])
@pytest.mark.parametrize("stepped", [[0, 1, 2], [2, 0]])
def test_a_slot_taken_back_leaves_the_others(opener, inputs, expected, stepped, back):
    runtime = opener(3)
    for slot in range(3):
        start(runtime, slot, inputs)
    run(runtime, inputs, [0, 1, 2], [0])
    run(runtime, inputs, stepped, [1])
    frames = dict.fromkeys(range(3), 1) | dict.fromkeys(stepped, 2)
    for slot in set(back) & set(stepped):
        runtime.rewind(slot)
        frames[slot] -= 1
    for _ in range(2):
        searches = np.stack([inputs[0][frames[slot], slot] for slot in range(3)])
        answer = runtime.step([0, 1, 2], searches, WINDOW)
        for slot in range(3):
            want = expected[slot][frames[slot]]
            np.testing.assert_allclose(answer.boxes[slot], want.boxes[0], atol=TOLERANCE)
            np.testing.assert_allclose(answer.maps[slot], want.maps[0], atol=TOLERANCE)
            frames[slot] += 1


@pytest.mark.slow
def test_an_answer_is_not_overwritten_by_the_next(opener, inputs):
    runtime = opener()
    start(runtime, 0, inputs)
    first = run(runtime, inputs, [0], [0])[0]
    kept = first.boxes.copy(), first.maps.copy()
    run(runtime, inputs, [0], [1, 2])
    assert np.array_equal(first.boxes, kept[0])
    assert np.array_equal(first.maps, kept[1])


def test_the_window_chooses_the_cell(opener, inputs):
    runtime = opener()
    start(runtime, 0, inputs)
    corner = np.zeros_like(WINDOW)
    corner[1, -2] = 100
    searches = inputs[0][0, :1]
    forced = runtime.step([0], searches, corner)
    if forced.maps[0, 1, -2] <= 0:
        corner[1, -2] = -100
        runtime.forget(0)
        forced = runtime.step([0], searches, corner)
    grid = SMALL.grid
    assert abs(forced.boxes[0, 0] * grid - (grid - 1.5)) < 3
    assert abs(forced.boxes[0, 1] * grid - 1.5) < 3
    assert forced.scores[0] == pytest.approx(100 * abs(forced.maps[0, 1, -2]), rel=1e-4)


def test_it_says_what_it_is_and_closes_twice(open_new):
    runtime = open_new(2)
    assert runtime.name
    assert runtime.precision == "fp32"
    assert runtime.batch == 2
    assert runtime.variant == SMALL
    assert runtime.device in ("cpu", "cuda")
    runtime.close()
    runtime.close()


def test_once_closed_it_is_refused_in_one_line(open_new, inputs):
    searches, templates, box = inputs
    runtime = open_new()
    runtime.encode_template(0, 0, templates[0], box)
    window = np.ones((SMALL.grid, SMALL.grid), np.float32)
    runtime.step([0], searches[0, :1], window)
    runtime.close()
    for use in (
        lambda: runtime.encode_template(0, 0, templates[0], box),
        lambda: runtime.step([0], searches[0, :1], window),
        lambda: runtime.read_state(0),
    ):
        with pytest.raises(ReloError, match=rf"this {runtime.name} runtime is closed"):
            use()
    with pytest.raises(ReloError):
        runtime.rewind(0)


def test_a_block_closes_it_whatever_ends_the_block(open_new, inputs):
    runtime = open_new()
    assert runtime.__enter__() is runtime
    with pytest.raises(KeyError), runtime:
        raise KeyError
    for use in (lambda: runtime.forget(0), lambda: runtime.step([], inputs[0][0, :0], WINDOW)):
        with pytest.raises(ReloError, match=rf"this {runtime.name} runtime is closed"):
            use()


@pytest.mark.slow
@pytest.mark.parametrize("slot", [-1, 2])
def test_a_slot_it_lacks_is_refused_in_one_line(opener, inputs, slot):
    runtime = opener(2)
    searches, templates, box = inputs
    for use in (
        lambda: runtime.encode_template(slot, 0, templates[0], box),
        lambda: runtime.forget(slot),
        lambda: runtime.rewind(slot),
        lambda: runtime.read_state(slot),
        lambda: runtime.step([slot], searches[0, :1], WINDOW),
    ):
        with pytest.raises(InputError, match=f"slot: found {slot}, expected 0 to 1"):
            use()


@pytest.mark.parametrize("name", ["pytorch", "onnxruntime", "openvino"])
def test_a_precision_it_lacks_is_refused(small_bundle, name):
    with pytest.raises(InputError, match=r"expected .*fp32"):
        open_runtime(small_bundle.path, name, "fp7")
