"""`Fleet`: each source's boxes are those it has alone, whatever the others do and when."""

import threading
import time

import numpy as np
import pytest
from cameras import ScriptedCamera, list_additions, list_holdings, number_frame, read_number
from clips import StillRuntime

from relo_edge import Fleet, MultiTracker, ReconnectPolicy, Recovery, open_runtime
from relo_edge.errors import InputError, ReloError, SourceError
from relo_edge.synthetic.clip import make_clip
from relo_edge.video.sources.frames import FrameSource

FRAMES = 10
SIZE = (160, 120)
BOX = (20.0, 20.0, 16.0, 16.0)
QUICK = ReconnectPolicy(first_delay=0.02, max_delay=0.05)


def open_clip(seed, hide=(), frames=FRAMES):
    """A synthetic clip whose frames come when they like; some show nothing."""

    def give():
        rng = np.random.default_rng(seed)
        for number, frame in enumerate(make_clip(seed, frames, SIZE).frames()):
            time.sleep(rng.uniform(0, 0.01))
            yield np.zeros_like(frame) if number in hide else frame

    return lambda: FrameSource(f"clip {seed}", give(), frame_count=frames)


def find_box(seed):
    return tuple(make_clip(seed, FRAMES, SIZE).boxes[0].tolist())


def track_alone(runtime, seed, hide=(), recovery=None):
    tracker = MultiTracker(runtime, color="bgr", recovery=recovery)
    with open_clip(seed, hide)() as source:
        frames = iter(source)
        target = tracker.add(next(frames), find_box(seed))
        boxes = [tracker.update(frame)[target].box for frame in frames]
    tracker.remove(target)
    return [find_box(seed), *boxes]


def collect(fleet):
    """Every source's boxes by frame; frames come in order."""
    boxes, numbers = {}, {}
    for frame in fleet:
        assert frame.number > numbers.get(frame.source, -1)
        numbers[frame.source] = frame.number
        if "car" in frame.tracks:
            boxes.setdefault(frame.source, []).append(frame.tracks["car"].box)
    return boxes


@pytest.fixture
def nothing_left():
    before = list_holdings()
    yield
    assert not list_additions(before)


# A batch as one, slots one by one, and lanes side by side.
OPENED = [("pytorch", 1), ("onnxruntime", 1), ("onnxruntime", 2), ("openvino", 2)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lanes"), OPENED)
def test_eight_sources_are_tracked_as_each_alone(small_bundle, name, lanes, nothing_left):
    seeds = range(8)
    with open_runtime(small_bundle, name, "fp32", threads=1) as alone:
        wanted = {f"cam{seed}": track_alone(alone, seed) for seed in seeds}
    opened = open_runtime(small_bundle, name, "fp32", batch=9, threads=2, lanes=lanes)
    with opened as runtime, Fleet(runtime, reconnect=QUICK) as fleet:
        for seed in seeds:
            fleet.add_source(f"cam{seed}", open_clip(seed), {"car": find_box(seed)})
        # One that dies, comes back, and in the end dies for good.
        dying = ScriptedCamera((6, "stop"), (0, "refuse"), (5, "stop"), *[(0, "refuse")] * 9)
        fleet.add_source("dying", dying, {"car": BOX})
        boxes = collect(fleet)
        assert list(fleet.failures) == ["dying"]
        assert fleet.sources == {**dict.fromkeys(wanted, "ended"), "dying": "failed"}
    for source, expected in wanted.items():
        np.testing.assert_allclose(boxes[source], expected, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "lanes"), [("pytorch", 1), ("onnxruntime", 2)])
def test_a_step_taken_back_is_the_right_ones(small_bundle, name, lanes):
    """With recovery, a doubtful frame leaves no trace in the state: for its own source alone."""
    recovery, hide = Recovery(), {1: (3, 4, 5, 6), 2: (5, 6, 7, 8)}
    with open_runtime(small_bundle, name, "fp32", threads=1) as alone:
        wanted = {s: track_alone(alone, s, hide.get(s, ()), recovery) for s in range(4)}
    opened = open_runtime(small_bundle, name, "fp32", batch=4, threads=2, lanes=lanes)
    with opened as runtime, Fleet(runtime, recovery=recovery) as fleet:
        for seed in range(4):
            clip = open_clip(seed, hide.get(seed, ()))
            fleet.add_source(f"cam{seed}", clip, {"car": find_box(seed)})
        boxes = collect(fleet)
    for seed, expected in wanted.items():
        np.testing.assert_allclose(boxes[f"cam{seed}"], expected, rtol=0, atol=1e-4)


def test_a_silent_camera_delays_nobody(nothing_left):
    with Fleet(StillRuntime(batch=2), wait=0.01) as fleet:
        fleet.add_source("silent", ScriptedCamera((1, "hang"), *[(0, "hang")] * 20), {"car": BOX})
        assert fleet.read(10).source == "silent"
        fleet.add_source("other", open_clip(0), {"car": BOX})
        heard = [fleet.read(10).source for _ in range(FRAMES)]
        assert heard == ["other"] * FRAMES
        assert fleet.sources["silent"] in ("running", "stalled", "reconnecting")
        assert fleet.read(0) is None


def test_sources_and_targets_come_and_go(nothing_left):
    with Fleet(StillRuntime(batch=2)) as fleet:
        assert list(fleet) == []
        fleet.add_source("a", ScriptedCamera((4000, "end")))
        frame = fleet.read()
        assert frame.tracks == {}
        fleet.add_target("a", "car", frame.image, BOX)
        fleet.add_source("b", ScriptedCamera((4000, "end")), {"car": BOX})
        with pytest.raises(InputError, match="source 'a' is there already"):
            fleet.add_source("a", ScriptedCamera((1, "end")))
        with pytest.raises(InputError, match="two targets are called 'car'"):
            fleet.add_target("a", "car", frame.image, BOX)
        with pytest.raises(InputError, match="targets of all sources: found 3, expected at most 2"):
            fleet.add_target("a", "van", frame.image, BOX)
        fleet.remove_source("b")
        fleet.add_target("a", "van", frame.image, BOX)  # in the slot that b's had
        while set((frame := fleet.read()).tracks) != {"car", "van"}:
            assert frame.source == "a"
        fleet.remove_target("a", "car")
        with pytest.raises(InputError, match="target: found 'car', expected one of"):
            fleet.remove_target("a", "car")
        while set(fleet.read().tracks) != {"van"}:
            pass
        for call in (fleet.remove_source, lambda name: fleet.remove_target(name, "car")):
            with pytest.raises(InputError, match=r"source: found 'b', expected one of \['a'\]"):
                call("b")
        fleet.add_source("b", ScriptedCamera((1, "end")), {"car": BOX})
    with pytest.raises(InputError, match="the fleet is closed"):
        fleet.add_source("c", ScriptedCamera((1, "end")))


def test_a_source_that_does_not_open_is_not_there(nothing_left):
    with Fleet(StillRuntime()) as fleet:
        with pytest.raises(SourceError, match="camera x does not open"):
            fleet.add_source("a", ScriptedCamera((0, "refuse")))
        with pytest.raises(InputError, match="source 'nope'"):
            fleet.add_source("a", "nope")
        with pytest.raises(InputError, match="source's name: found 'a b'"):
            fleet.add_source("a b", "nope")
        with pytest.raises(InputError, match="target's name"):
            fleet.add_source("a", ScriptedCamera((1, "end")), {"": BOX})
        assert fleet.sources == {}
        fleet.add_source("a", ScriptedCamera((1, "end")))
        assert len(list(fleet)) == 1
        with pytest.raises(InputError, match="source 'a' is over"):
            fleet.add_target("a", "car", number_frame(0), BOX)


def test_a_target_that_cannot_be_ends_its_source_alone():
    with Fleet(StillRuntime(batch=2)) as fleet:
        fleet.add_source("a", open_clip(0), {"car": (500.0, 500.0, 10.0, 10.0)})
        fleet.add_source("b", open_clip(1), {"car": BOX})
        assert set(collect(fleet)) == {"b"}
        assert isinstance(fleet.failures["a"], InputError)


def test_a_slow_reader_loses_no_frame_of_a_file():
    camera = ScriptedCamera((40, "end"), live=False, pause=0)
    with Fleet(StillRuntime()) as fleet:
        fleet.add_source("a", camera, {"car": (8.0, 8.0, 16.0, 16.0)})
        time.sleep(0.3)
        assert camera.number < 40  # it waits
        assert [read_number(frame.image) for frame in fleet] == list(range(40))


def test_closing_ends_a_source_that_waits_to_be_read():
    with Fleet(StillRuntime()) as fleet:
        fleet.add_source("a", ScriptedCamera((400, "end"), live=False, pause=0))
        time.sleep(0.1)
    assert not [one for one in threading.enumerate() if one.name == "relo-edge-a"]
    assert fleet.read() is None


def test_a_runtime_that_breaks_fails_those_who_asked():
    class Breaking(StillRuntime):
        def step(self, slots, searches, window):
            raise ReloError("the device is gone")

    with Fleet(Breaking(batch=2)) as fleet:
        for name in "ab":
            fleet.add_source(name, open_clip(0), {"car": BOX})
        assert len(list(fleet)) == 2  # their first frames
        assert {str(error) for error in fleet.failures.values()} == {"the device is gone"}


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf")])
def test_a_wait_that_cannot_be_is_refused(wait):
    with pytest.raises(InputError, match="wait: found"):
        Fleet(StillRuntime(), wait=wait)
