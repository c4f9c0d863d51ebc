"""The runtime's buffers, turns and graphs on a device that records and really computes."""

import itertools
import shutil
import threading
from contextlib import closing

import numpy as np
import pytest
from engines import add_fp16
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorded_steps import BOX, DEMO, SEARCHES, TEMPLATES, WINDOW, record_step, start, step, track
from recording_device import (
    SCRATCH,
    OnnxContext,
    RecordingDevice,
    open_recorded,
    write_plans,
)
from support import read_temporal

from relo_edge.bundle import open_bundle
from relo_edge.errors import DeviceError
from relo_edge.runtimes.onnxruntime import OnnxRuntime
from relo_edge.runtimes.tensorrt.choice import cover_batches
from relo_edge.synthetic.clip import make_clip


@pytest.mark.slow
@pytest.mark.parametrize("graphs", [True, False])
def test_a_closed_loop_equals_onnxruntimes(small_bundle, graphs):
    clip = make_clip(3, 16)
    with (
        closing(OnnxRuntime(small_bundle, "fp32")) as plain,
        closing(open_recorded(small_bundle, device=RecordingDevice(graphs=graphs))) as recorded,
    ):
        np.testing.assert_allclose(track(recorded, clip), track(plain, clip), rtol=0, atol=1e-3)


def test_a_half_state_stays_half(small_bundle, tmp_path):
    shutil.copytree(small_bundle.path, tmp_path / "b")
    bundle = add_fp16(open_bundle(tmp_path / "b"))
    plain, recorded = OnnxRuntime(bundle, "fp16"), open_recorded(bundle, precision="fp16")
    for runtime in (plain, recorded):
        start(runtime, [0])
    for crop in SEARCHES:
        want, got = (r.step([0], crop[None], WINDOW) for r in (plain, recorded))
        np.testing.assert_allclose(got.maps, want.maps, atol=0.06)
        np.testing.assert_allclose(read_temporal(recorded, 0), read_temporal(plain, 0), atol=0.06)
    assert recorded.precision == "fp16"


STEPS = st.tuples(st.just("step"), st.lists(st.integers(0, 2), min_size=1, max_size=3, unique=True))
OTHERS = st.tuples(
    st.sampled_from(["forget", "template", "rewind"]),
    st.lists(st.integers(0, 2), min_size=1, max_size=1),
)
COURSES = st.lists(st.one_of(STEPS, STEPS, OTHERS), min_size=5, max_size=9)


@pytest.fixture(scope="module")
def pair(small_bundle):
    runtimes = OnnxRuntime(small_bundle, "fp32", batch=3), open_recorded(small_bundle, 3)
    yield runtimes
    for runtime in runtimes:
        runtime.close()


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(actions=COURSES, seed=st.integers(0, 99))
def test_any_course_of_targets_equals_onnxruntimes(pair, actions, seed):
    """Restarts, pauses, steps taken back and changes of batch; every slot's state is compared."""
    rng = np.random.default_rng(seed)
    for runtime in pair:
        start(runtime, range(3))
    stepped, before, last = set(), set(), set()
    for action, slots in actions:
        if action == "step":
            crops = SEARCHES[rng.integers(0, 3, len(slots))]
            want, got = (runtime.step(slots, crops, WINDOW) for runtime in pair)
            np.testing.assert_allclose(got.maps, want.maps, atol=1e-4)
            np.testing.assert_allclose(got.boxes, want.boxes, atol=1e-4)
            before, last = set(stepped), set(slots)
            stepped |= last
        if action == "rewind" and slots[0] not in last:
            continue
        for runtime in pair:
            if action == "forget":
                runtime.forget(slots[0])
            if action == "template":
                runtime.encode_template(slots[0], 0, TEMPLATES[slots[0] - 1], BOX)
            if action == "rewind":
                runtime.rewind(slots[0])
        if action in ("forget", "rewind"):
            last -= set(slots)
            stepped -= set(slots) - (before if action == "rewind" else set())
        for slot in stepped:
            want, got = (read_temporal(runtime, slot) for runtime in pair)
            np.testing.assert_allclose(got, want, atol=1e-4)


def test_a_frame_is_one_launch_and_one_wait(small_bundle):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, device=device)
    start(runtime, [0])
    for turn in (0, 1, 0):
        assert record_step(runtime, device, 0) == [("launch", turn), ("synchronize",)]
    assert runtime.launching == "captured CUDA graphs"


def test_without_graphs_a_frame_is_one_copy_each_way(small_bundle):
    device = RecordingDevice(graphs=False)
    runtime = open_recorded(small_bundle, device=device)
    start(runtime, [0])
    log = record_step(runtime, device, 0)
    assert [entry[0] for entry in log] == ["send", "enqueue", "fetch", "synchronize"]
    crop = DEMO.search_size**2 * 3
    assert crop < log[0][1] < crop + 2048
    assert log[2][1] < 2048
    assert "recording captures no CUDA graphs" in runtime.launching


def test_the_states_are_used_in_turn_and_nothing_else_moves(small_bundle):
    device = RecordingDevice(graphs=False)
    runtime = open_recorded(small_bundle, 2, device=device)
    start(runtime, [0, 1])
    bound = [
        next(e[1] for e in record_step(runtime, device, 0, 1) if e[0] == "enqueue")
        for _ in range(4)
    ]
    ends = [(b.pop("temporal_tokens"), b.pop("temporal_tokens_out")) for b in bound]
    assert ends[0] == ends[1][::-1] == ends[2] == ends[3][::-1]
    assert ends[0][0] != ends[0][1]
    assert bound[0] == bound[1] == bound[2] == bound[3]
    assert all(address % 256 == 0 for address in (*bound[0].values(), *ends[0]))
    assert len({*bound[0].values(), *ends[0]}) == len(bound[0]) + 2


def test_all_is_captured_when_opened_and_nothing_in_mid_track(small_bundle):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, 3, device=device)
    assert len(device.live_graphs) == 6
    device.log.clear()
    start(runtime, range(3))
    for slots in [(0,), (0, 1), (0, 1, 2), (2,), (1,)] * 2:
        step(runtime, *slots)
    assert not {"begin", "create_context", "allocate"} & {entry[0] for entry in device.log}
    device.log.clear()
    step(runtime, 0, 1, 2)
    assert [entry[0] for entry in device.log] == ["launch", "synchronize"]


def list_batches(runtime, device, *slots):
    return [entry[2] for entry in record_step(runtime, device, *slots) if entry[0] == "enqueue"]


@pytest.mark.slow
def test_a_step_runs_on_the_smallest_engine_that_fits(small_bundle):
    device, plain = RecordingDevice(graphs=False), OnnxRuntime(small_bundle, "fp32", batch=3)
    fixed = [(1, 1), (2, 2), (4, 4), (8, 8)]
    runtime = open_recorded(small_bundle, 3, batches=fixed, device=device)
    for one in (plain, runtime):
        start(one, range(3))
    assert list_batches(runtime, device, 0) == [1]
    assert list_batches(runtime, device, 0, 1) == [2]
    assert list_batches(runtime, device, 0, 1, 2) == [4]
    assert list_batches(runtime, device, 1) == [2]
    contexts = [entry for entry in device.log if entry[0] == "create_context"]
    assert contexts == []
    for slots in [(0,), (0, 1), (0, 1, 2), (1,)]:
        step(plain, *slots)
    for slots in [(0, 1, 2), (2, 0), (1,), (0, 1, 2)]:
        want, got = step(plain, *slots), step(runtime, *slots)
        np.testing.assert_allclose(got.maps, want.maps, atol=1e-4)
        np.testing.assert_allclose(got.boxes, want.boxes, atol=1e-4)


@pytest.mark.parametrize(
    ("batches", "batch", "opened"),
    [
        ([(1, 1)], 1, [1]),
        ([(4, 4)], 1, [4]),
        ([(1, 1), (4, 4), (8, 8)], 1, [1]),
        ([(1, 1), (4, 4), (8, 8)], 5, [1, 4, 8]),
        ([(1, 8), (4, 4)], 4, [1, 2, 3, 4]),
        ([(1, 4)], 5, []),
        ([(1, 1), (2, 8)], 3, [1, 2, 3]),
    ],
)
def test_engines_are_opened_up_to_the_first_that_holds_all(
    small_bundle, tmp_path, batches, batch, opened
):
    _, *steps = write_plans(small_bundle, "fp32", batches, tmp_path)
    chosen = cover_batches(steps, batch)
    assert list(chosen) == opened
    for size, sidecar in chosen.items():
        assert sidecar.least <= size <= sidecar.batch
        fixed = [s for s in steps if s.is_static and s.batch == size]
        assert sidecar in (fixed or steps)


def test_one_block_of_scratch_memory_serves_every_context(small_bundle):
    device = RecordingDevice()
    open_recorded(small_bundle, 3, device=device)
    sizes = [entry[1] for entry in device.log if entry[0] == "allocate"]
    assert sizes.count(SCRATCH) == 1
    assert len([entry for entry in device.log if entry[0] == "create_context"]) == 7


def test_graphs_go_before_contexts_and_contexts_before_engines(small_bundle):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, 2, device=device)
    device.log.clear()
    runtime.close()
    names = [entry[0] for entry in device.log]
    order = ["destroy", "destroy_context", "destroy_engine", "free"]
    places = [[i for i, name in enumerate(names) if name == kind] for kind in order]
    assert [len(found) for found in places] == [4, 5, 2, len(places[3])]
    for before, after in itertools.pairwise(places):
        assert max(before) < min(after)


def test_named_ranges_are_off_in_every_context(small_bundle, monkeypatch):
    quiet = []
    monkeypatch.setattr(
        OnnxContext, "nvtx_verbosity", property(lambda _: None, lambda _, v: quiet.append(v.name))
    )
    open_recorded(small_bundle)
    assert quiet == ["NONE"] * 3


@pytest.mark.parametrize("error", [RuntimeError, TypeError])
def test_a_profile_that_raises_ends_in_one_line(small_bundle, monkeypatch, error):
    def refuse(*_):
        raise error("no such profile")

    monkeypatch.setattr(OnnxContext, "set_optimization_profile_async", refuse)
    device = RecordingDevice()
    with pytest.raises(DeviceError, match="tensorrt refuses batch 1: found no such profile"):
        open_recorded(small_bundle, device=device)
    assert device.leftovers == (0, 0, 0, 0)


def test_only_those_that_sit_out_and_have_a_history_are_carried_over(small_bundle):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, 3, device=device)
    start(runtime, range(3))
    step(runtime, 0, 1)
    size = read_temporal(runtime, 0).nbytes
    moves = [entry for entry in record_step(runtime, device, 0) if entry[0] == "move"]
    assert [move[3] for move in moves] == [size]
    runtime.forget(1)
    assert not [entry for entry in record_step(runtime, device, 0) if entry[0] == "move"]


def test_a_step_is_taken_back_by_turning_round_or_by_one_move(small_bundle):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, 2, device=device)
    start(runtime, [0, 1])
    step(runtime, 0)
    device.log.clear()
    runtime.rewind(0)  # alone: the other direction again, and nothing moves
    assert device.log == []
    assert ("launch", 2) in record_step(runtime, device, 1, 0)
    step(runtime, 0, 1)
    state = [read_temporal(runtime, slot) for slot in (0, 1)]
    step(runtime, 0, 1)
    kept = read_temporal(runtime, 1)
    device.log.clear()
    runtime.rewind(0)
    ((name, target, source, size),) = device.log
    assert (name, size) == ("move", state[0].nbytes)
    assert abs(target - source) >= 2 * size
    np.testing.assert_array_equal(read_temporal(runtime, 0), state[0])
    np.testing.assert_array_equal(read_temporal(runtime, 1), kept)
    device.log.clear()
    runtime.rewind(1)  # the last of them turns round
    assert device.log == []
    for slot in (0, 1):
        np.testing.assert_array_equal(read_temporal(runtime, slot), state[slot])


def test_no_slot_is_no_work(small_bundle):
    device, plain = RecordingDevice(), OnnxRuntime(small_bundle, "fp32")
    runtime = open_recorded(small_bundle, 2, device=device)
    for one in (plain, runtime):
        start(one, [0])
        step(one, 0)
    device.log.clear()
    assert runtime.step([], SEARCHES[:0], WINDOW).boxes.shape == (0, 4)
    assert device.log == []
    want, got = (one.step([0], SEARCHES[1:2], WINDOW) for one in (plain, runtime))
    np.testing.assert_allclose(got.maps, want.maps, atol=1e-4)


@pytest.mark.slow
def test_two_trackers_in_two_threads_equal_each_alone(small_bundle):
    clips, found = [make_clip(seed, 8) for seed in (1, 2)], {}
    alone = [track(open_recorded(small_bundle), clip) for clip in clips]

    def follow(index):
        found[index] = track(open_recorded(small_bundle), clips[index])

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        np.testing.assert_array_equal(found[index], alone[index])


def test_the_gpus_own_time_is_measured_over_both_directions(small_bundle):
    device = RecordingDevice()
    runtime = open_recorded(small_bundle, device=device)
    start(runtime, [0])
    device.log.clear()
    assert runtime.time_launches(3) == [0.5] * 3
    assert [entry for entry in device.log if entry[0] == "launch"] == [
        ("launch", 0),
        ("launch", 1),
        ("launch", 0),
    ]
