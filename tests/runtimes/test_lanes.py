"""Lanes: so many at a time, first come, first served; slots of one runtime side by side."""

import threading
import time

import numpy as np
import pytest

from relo_edge.errors import InputError
from relo_edge.geometry import hann_window
from relo_edge.runtime import open_runtime
from relo_edge.runtimes.lanes import Lanes, count_threads


def test_nobody_overtakes():
    lanes, served, threads = Lanes(1), [], []

    def come(name):
        with lanes:
            served.append(name)

    with lanes:
        for name in range(8):
            threads.append(threading.Thread(target=come, args=(name,)))
            threads[-1].start()
            while len(lanes._waiting) <= name:
                time.sleep(0.001)
    come("last")  # although it is quick
    for thread in threads:
        thread.join()
    assert served == [*range(8), "last"]


def test_no_more_than_there_are_lanes():
    lanes, inside, most = Lanes(2), [], []

    def come():
        for _ in range(20):
            with lanes:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=come) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(most) == 2
    assert lanes._free == 2


@pytest.mark.parametrize(
    ("threads", "lanes", "expected"), [(None, 1, None), (4, 1, 4), (8, 2, 7), (2, 2, 1), (1, 4, 1)]
)
def test_the_threads_of_a_session_leave_room_for_its_callers(threads, lanes, expected):
    assert count_threads(threads, lanes) == expected


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_slot_is_taken_back_whatever_the_others_do(small_bundle, name):
    with open_runtime(small_bundle, name, "fp32", batch=2, threads=2, lanes=2) as runtime:
        side, size = runtime.variant.search_size, runtime.variant.template_size
        rng = np.random.default_rng(0)
        searches = rng.integers(0, 256, (3, 1, side, side, 3), np.uint8)
        template = rng.integers(0, 256, (size, size, 3), np.uint8)
        window = hann_window(runtime.variant.grid, 2.0)
        for slot in (0, 1):
            runtime.encode_template(slot, 0, template, np.float32([0.25, 0.25, 0.5, 0.5]))
            runtime.forget(slot)
        runtime.step([0], searches[0], window)
        before = runtime.read_state(0)
        runtime.step([0], searches[1], window)
        for search in searches:
            runtime.step([1], search, window)
        runtime.rewind(0)
        for key, state in runtime.read_state(0).items():
            np.testing.assert_array_equal(state, before[key])
        with pytest.raises(InputError, match="slot 0 cannot be rewound"):
            runtime.rewind(0)


def test_lanes_that_cannot_be_are_refused(small_bundle):
    with pytest.raises(InputError, match="lanes: found 0, expected 1 or more"):
        open_runtime(small_bundle, "onnxruntime", lanes=0)
