"""One runtime, several threads: what waits becomes one step, and nobody waits for the silent."""

import threading
import time
from contextlib import suppress

import numpy as np
import pytest
from clips import StillRuntime, draw_frame

from relo_edge.errors import InputError, ReloError
from relo_edge.network.drlt_sizes import DRLT_VARIANTS
from relo_edge.runtime import StepResult
from relo_edge.streams.sharing import SharedRuntime, StreamTracker, count_lanes

BOX = (30.0, 20.0, 24.0, 18.0)
FRAME = draw_frame(0)


class Counting(StillRuntime):
    """Notes the slots of each step; the first waits until the others are there."""

    def __init__(self, batch, hold=None):
        super().__init__(batch=batch)
        self.steps, self.hold = [], hold

    def step(self, slots, searches, window):
        assert len(slots) == len(searches)
        if self.hold and not self.steps:
            self.hold()
        self.steps.append(list(slots))
        return super().step(slots, searches, window)


def start_trackers(shared, count):
    trackers = [StreamTracker(shared.share(1), color="bgr") for _ in range(count)]
    return trackers, [tracker.add(FRAME, BOX) for tracker in trackers]


def run_all(calls):
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)


def test_what_waits_during_a_step_is_the_next_step():
    runtime = Counting(4)
    shared = SharedRuntime(runtime, wait=0)
    trackers, _ = start_trackers(shared, 4)

    def hold():
        while len(shared._waiting) < 3:
            time.sleep(0.001)

    runtime.hold = hold
    run_all([lambda t=t: t.update(FRAME) for t in trackers])
    assert sorted(map(len, runtime.steps)) == [1, 3]
    assert sorted(slot for step in runtime.steps for slot in step) == [0, 1, 2, 3]


def test_a_source_that_is_silent_is_waited_for_once():
    runtime = Counting(2)
    shared = SharedRuntime(runtime, wait=0.01)
    (one, two), _ = start_trackers(shared, 2)
    shared._expected = {one.runtime, two.runtime}
    run_all([lambda: one.update(FRAME)])
    shared._wait = 1000
    run_all([lambda: [one.update(FRAME) for _ in range(3)]])
    assert runtime.steps == [[0]] * 4


def test_one_that_leaves_is_not_waited_for():
    runtime = Counting(2)
    shared = SharedRuntime(runtime, wait=1000)
    (one, two), _ = start_trackers(shared, 2)
    shared._expected = {one.runtime, two.runtime}
    two.runtime.close()
    run_all([lambda: one.update(FRAME)])
    assert runtime.steps[-1] == [0]


def test_settings_that_differ_are_stepped_apart():
    runtime = Counting(2)
    shared = SharedRuntime(runtime, wait=0)
    (one, two), _ = start_trackers(shared, 2)
    two.motion.shared = two.motion.shared * 0.5
    runtime.hold = lambda: time.sleep(0.05)
    run_all([lambda t=t: [t.update(FRAME) for _ in range(3)] for t in (one, two)])
    assert all(len(step) == 1 for step in runtime.steps)


def test_slots_are_lent_and_come_back():
    shared = SharedRuntime(StillRuntime(batch=3))
    tracker = StreamTracker(shared.share(2), color="bgr")
    with pytest.raises(InputError, match="targets of all sources: found 4, expected at most 3"):
        shared.share(2)
    other = StreamTracker(shared.share(), color="bgr")
    other.add(FRAME, BOX)
    with pytest.raises(InputError, match="found 4, expected at most 3"):
        other.add(FRAME, BOX)
    target = tracker.add(FRAME, BOX)
    tracker.remove(target)
    second = other.add(FRAME, BOX)  # in the slot that the first tracker gave back
    assert set(other.update(FRAME)) == {0, second}
    for one in (tracker, other):
        one.runtime.close()
    assert shared.take_slots(3) == [0, 1, 2]


def test_an_error_reaches_everybody_in_the_step():
    class Broken(Counting):
        def step(self, slots, searches, window):
            super().step(slots, searches, window)
            raise ReloError("the device is gone")

    shared = SharedRuntime(Broken(2), wait=0)
    trackers, _ = start_trackers(shared, 2)
    errors = []

    def update(tracker):
        with pytest.raises(ReloError, match="the device is gone") as caught:
            tracker.update(FRAME)
        errors.append(caught.value)

    run_all([lambda t=t: update(t) for t in trackers])
    assert len(errors) == 2
    run_all([lambda: update(trackers[0])])  # nobody is left waiting


def test_rows_go_to_those_who_asked():
    class Numbered(Counting):
        def step(self, slots, searches, window):
            answer = super().step(slots, searches, window)
            answer.scores[:] = slots
            return answer

    runtime = Numbered(3)
    shared = SharedRuntime(runtime, wait=0)
    trackers, targets = start_trackers(shared, 3)
    scores = {}

    def update(place):
        scores[place] = trackers[place].update(FRAME)[targets[place]].score

    runtime.hold = lambda: time.sleep(0.05)
    run_all([lambda p=place: update(p) for place in range(3)])
    np.testing.assert_array_equal([scores[place] for place in range(3)], [0, 1, 2])


class FirstStepRuntime(StillRuntime):
    """Of a family whose targets start with a step; the first step may fail."""

    variant = DRLT_VARIANTS["drlt-demo"]
    fails = False

    def set_target(self, slot, name, values):
        pass

    def step(self, slots, pixels, window):
        if self.fails:
            self.fails = False
            raise ReloError("the device is gone")
        return StepResult(np.full((len(slots), 4), 0.5, np.float32), np.full(len(slots), np.nan))


@pytest.mark.parametrize("fails", [False, True])
def test_a_start_that_takes_a_step_holds_up_nobody(fails):
    """Every later step waited for ever."""
    runtime = FirstStepRuntime(batch=2)
    runtime.fails = fails
    shared = SharedRuntime(runtime, wait=0)
    one, two = (StreamTracker(shared.share(1), color="bgr") for _ in range(2))
    seen = []

    def follow():
        with suppress(ReloError):
            one.add(FRAME, BOX)
        two.add(FRAME, BOX)
        seen.extend([one.update(FRAME), two.update(FRAME)])

    run_all([follow])
    assert [list(tracks) for tracks in seen] == [[] if fails else [0], [0]]


@pytest.mark.parametrize(
    ("sources", "threads", "expected"), [(8, None, 8), (8, 2, 2), (2, 8, 2), (3, 1, 1)]
)
def test_every_source_has_a_lane_but_for_a_limit_on_threads(sources, threads, expected):
    assert count_lanes(sources, threads) == expected
