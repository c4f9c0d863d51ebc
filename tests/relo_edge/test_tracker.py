"""The tracker: equal to the release in closed loop, independent targets, clear refusals."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from support import draw_recipe, load_vectors

from relo_edge.errors import InputError
from relo_edge.families.motion import measure_confidence
from relo_edge.geometry import hann_window
from relo_edge.lost import LostRule
from relo_edge.runtime import StepResult
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.spec import VARIANTS
from relo_edge.tracker import MultiTracker, Tracker

BOX_TOLERANCE = 0.05  # pixels
SCORE_TOLERANCE = 1e-4
DEMO = VARIANTS["demo"]


def protocol_of(variant, setting):
    protocol = VARIANTS[variant].protocol()
    if setting == "update":
        protocol = replace(protocol, update_interval=3, update_threshold=-1e9)
    return protocol


def open_reference(variant, salt=1, batch=1):
    return PytorchRuntime(VARIANTS[variant], draw_recipe(variant, salt), batch=batch)


def follow(tracker, frames, box):
    tracker.init(frames[0], box)
    return [tracker.update(frame) for frame in frames[1:]]


def init_box(vectors):
    return tuple(float(value) for value in vectors["init_box_xywh"])


# The second rollout was recorded with the recipe's second set of weights.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "setting", "rollout", "frames"),
    [
        ("t256", "default", 1, 6),
        ("t256", "default", 2, 20),
        ("b256", "update", 1, 8),
    ],
)
def test_closed_loop_equals_the_release(variant, setting, rollout, frames):
    """The larger network only as far as two updates of its template reach.

    The first rollout's other frames are those of tests/runtimes/test_rollouts.py.
    """
    vectors = load_vectors(f"rollout_{rollout}")
    runtime = open_reference(variant, salt=rollout)
    tracker = Tracker(runtime, protocol_of(variant, setting), color="rgb")
    tracks = follow(tracker, vectors["frames"][:frames], init_box(vectors))
    boxes, scores = [t.box for t in tracks], [t.score for t in tracks]
    expected = vectors[f"{variant}_{setting}_boxes"][: frames - 1]
    np.testing.assert_allclose(boxes, expected, rtol=0, atol=BOX_TOLERANCE)
    expected = vectors[f"{variant}_{setting}_scores"][: frames - 1]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=SCORE_TOLERANCE)


def test_bgr_frames_give_the_same_boxes():
    vectors, runtime = load_vectors("rollout_1"), open_reference("demo")
    frames, box = vectors["frames"][:4], init_box(vectors)
    rgb = follow(Tracker(runtime, color="rgb"), frames, box)
    bgr = follow(Tracker(runtime, color="bgr"), np.ascontiguousarray(frames[..., ::-1]), box)
    wrong = follow(Tracker(runtime, color="bgr"), frames, box)
    assert rgb == bgr
    assert rgb != wrong


@pytest.mark.slow
def test_five_targets_started_at_different_frames_equal_each_alone():
    frames = load_vectors("rollout_1")["frames"]
    starts = {0: (36, 54, 44, 44), 1: (100, 60, 30, 50), 2: (10, 10, 60, 40), 4: (150, 90, 70, 70)}
    starts[6] = (90, 20, 25, 25)
    together = MultiTracker(open_reference("demo", batch=5), color="rgb")
    boxes = {}
    for index, frame in enumerate(frames):
        for target, track in together.update(frame).items():
            boxes.setdefault(target, []).append(track.box)
        if index in starts:
            together.add(frame, starts[index])
    alone = Tracker(open_reference("demo"), color="rgb")
    for target, (start, box) in enumerate(starts.items()):
        expected = [track.box for track in follow(alone, frames[start:], box)]
        np.testing.assert_allclose(boxes[target], expected, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_a_removed_target_frees_its_slot_and_leaves_the_others():
    frames, alone = (
        load_vectors("rollout_1")["frames"],
        Tracker(open_reference("demo"), color="rgb"),
    )
    expected = [t.box for t in follow(alone, frames[:8], (36, 54, 44, 44))]
    tracker = MultiTracker(open_reference("demo", batch=2), color="rgb")
    gone, kept = tracker.add(frames[0], (90, 20, 25, 25)), tracker.add(frames[0], (36, 54, 44, 44))
    boxes = [tracker.update(frames[1])[kept].box, tracker.update(frames[2])[kept].box]
    tracker.remove(gone)
    new = tracker.add(frames[2], (10, 10, 60, 40))
    assert new not in (gone, kept)
    boxes += [tracker.update(frame)[kept].box for frame in frames[3:8]]
    np.testing.assert_allclose(boxes, expected, rtol=0, atol=1e-4)
    with pytest.raises(InputError, match="at most 2"):
        tracker.add(frames[8], (36, 54, 44, 44))
    with pytest.raises(InputError, match="target: found 0"):
        tracker.remove(gone)


def test_init_again_starts_afresh():
    vectors, tracker = load_vectors("rollout_1"), Tracker(open_reference("demo"), color="rgb")
    frames, box = vectors["frames"][:5], init_box(vectors)
    assert follow(tracker, frames, box) == follow(tracker, frames, box)


class PlayedRuntime:
    """Answers with given policy logits, so that what the tracker makes of them can be told."""

    variant = DEMO
    batch = 1

    def __init__(self, peaks):
        self.peaks = list(peaks)
        self.encoded = []

    def encode_template(self, slot, index, template, box):
        self.encoded.append(index)

    def forget(self, slot):
        pass

    def rewind(self, slot):
        pass

    def step(self, slots, searches, window):
        logits = np.zeros((1, DEMO.grid, DEMO.grid), np.float32)
        logits[0, 4, 4] = self.peaks.pop(0)
        score = (logits * window).max(axis=(1, 2))
        box = np.array([[0.5, 0.5, 0.25, 0.25]], np.float32)
        return StepResult(box, score, logits)


FRAME = np.zeros((100, 120, 3), np.uint8)
BOX = (40.0, 30.0, 20.0, 20.0)


def test_confidence_is_the_probability_around_the_chosen_cell():
    window = hann_window(16, 0.0)
    assert measure_confidence(np.zeros((16, 16), np.float32), window) == pytest.approx(4 / 256)
    logits = np.zeros((16, 16), np.float32)
    logits[5, 7] = np.log(100)
    assert measure_confidence(logits, window) == pytest.approx(108 / 355)
    logits[5, 7] = 1000
    assert measure_confidence(logits, window) == pytest.approx(1)


def test_lost_after_patience_found_at_once_and_the_box_untouched():
    peaks = [9, 0.1, 0.1, 9, 0.1, 0.1, 0.1, 0.1, 9]
    by_rule = follow(
        Tracker(PlayedRuntime(peaks), color="rgb", lost_rule=LostRule(0.5, 3)), [FRAME] * 10, BOX
    )
    never = follow(
        Tracker(PlayedRuntime(peaks), color="rgb", lost_rule=LostRule(0.0, 1)), [FRAME] * 10, BOX
    )
    assert [t.lost for t in by_rule] == [False] * 6 + [True] * 2 + [False]
    assert [t.box for t in by_rule] == [t.box for t in never]
    assert not any(t.lost for t in never)


class BrokenRuntime(PlayedRuntime):
    """One answer in the middle is not finite; what was rewound is kept."""

    def __init__(self, part, value):
        super().__init__([9] * 5)
        self.part, self.value, self.rewound = part, value, []

    def rewind(self, slot):
        self.rewound.append(len(self.peaks))

    def step(self, slots, searches, window):
        step = super().step(slots, searches, window)
        if len(self.peaks) in (2, 3):
            getattr(step, self.part).flat[-1] = self.value
        return step


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("part", ["boxes", "scores", "maps"])
@pytest.mark.filterwarnings("error")
def test_an_answer_that_is_not_finite_holds_the_box_and_the_state(part, value):
    """It used to become a box in the corner, with confidence 1."""
    if (part, value) == ("maps", -np.inf):
        pytest.skip("a cell of probability 0 is an answer")
    runtime = BrokenRuntime(part, value)
    tracker = Tracker(runtime, color="rgb", lost_rule=LostRule(patience=2))
    tracks = follow(tracker, [FRAME] * 6, BOX)
    assert [track.lost for track in tracks] == [False, False, True, False, False]
    assert [track.box for track in tracks[1:3]] == [tracks[0].box] * 2
    assert [(track.score, track.confidence) for track in tracks[1:3]] == [(0.0, 0.0)] * 2
    assert tracks[3].confidence > 0.9
    assert runtime.rewound == [3, 2]


def test_an_answer_that_is_not_finite_renews_no_template():
    runtime = BrokenRuntime("scores", np.inf)
    runtime.variant = replace(DEMO, name="two", templates=2)
    protocol = replace(DEMO.protocol(), update_interval=1, update_threshold=10.0)
    follow(Tracker(runtime, protocol, color="rgb"), [FRAME] * 6, BOX)
    assert runtime.encoded == [0, 1]


def test_templates_are_renewed_on_time_and_only_above_the_threshold():
    runtime = PlayedRuntime([1, 1, 30, 1, 1, 1, 1, 1, 30])
    runtime.variant = replace(DEMO, name="two", templates=2)
    protocol = replace(DEMO.protocol(), update_interval=3, update_threshold=10.0)
    follow(Tracker(runtime, protocol, color="rgb"), [FRAME] * 10, BOX)
    assert runtime.encoded == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("box", "word"),
    [
        ((0, 0, 0, 10), "above 0"),
        ((0, 0, 10, -1), "above 0"),
        ((0, 0, float("nan"), 10), "finite"),
        ((float("inf"), 0, 10, 10), "finite"),
        ((120, 0, 10, 10), "within 120x100"),
        ((-10, 0, 10, 10), "within 120x100"),
        ((0, 0, 3e4, 3e4), "at most 2 times the frame"),
        ((1, 2, 3), "four numbers"),
        (("a", 2, 3, 4), "four numbers"),
        (None, "four numbers"),
    ],
)
def test_bad_boxes_are_refused(box, word):
    with pytest.raises(InputError, match=word):
        Tracker(PlayedRuntime([]), color="rgb").init(FRAME, box)


@pytest.mark.parametrize(
    "frame",
    [
        None,
        FRAME.astype(np.float32),
        FRAME[..., 0],
        np.zeros((100, 120, 4), np.uint8),
        np.zeros((0, 120, 3), np.uint8),
    ],
)
def test_bad_frames_are_refused(frame):
    tracker = Tracker(PlayedRuntime([1]), color="bgr")
    with pytest.raises(InputError, match="frame: found .* expected a uint8 array"):
        tracker.init(frame, BOX)
    tracker.init(FRAME, BOX)
    with pytest.raises(InputError, match="frame: found .* expected a uint8 array"):
        tracker.update(frame)


def test_a_frame_size_that_changes_is_refused_until_started_again():
    tracker = Tracker(PlayedRuntime([1, 1]), color="rgb")
    tracker.init(FRAME, BOX)
    with pytest.raises(InputError, match="found 100x100, expected 120x100"):
        tracker.update(FRAME[:, :100])
    tracker.init(FRAME[:, :100], BOX)
    tracker.update(FRAME[:, :100])


def test_a_tracker_without_a_target_or_colour_says_so():
    with pytest.raises(InputError, match="call init"):
        Tracker(PlayedRuntime([]), color="rgb").update(FRAME)
    with pytest.raises(InputError, match="'bgr' or 'rgb'"):
        Tracker(PlayedRuntime([]), color="gray")
    with pytest.raises(InputError, match="lost rule"):
        LostRule(threshold=2.0)


def test_tracks_never_leave_the_frame():
    tracker = Tracker(PlayedRuntime([1]), color="rgb")
    tracker.init(FRAME, (118, 98, 30, 30))
    x, y, w, h = tracker.update(FRAME).box
    assert x + w <= 120
    assert y + h <= 100
    assert min(w, h) >= 10


def test_a_start_that_is_refused_leaves_the_target():
    tracker, other = (Tracker(PlayedRuntime([9, 9]), color="rgb") for _ in range(2))
    for each in (tracker, other):
        each.init(FRAME, BOX)
    assert tracker.update(FRAME) == other.update(FRAME)
    with pytest.raises(InputError, match="outside the frame"):
        tracker.init(FRAME, (500, 0, 10, 10))
    with pytest.raises(InputError, match="frame: found"):
        tracker.init(FRAME[..., 0], BOX)
    assert tracker.update(FRAME) == other.update(FRAME)


def test_two_trackers_do_not_share_a_state_unnoticed():
    runtime = PlayedRuntime([9] * 4)
    first, second = Tracker(runtime, color="rgb"), Tracker(runtime, color="rgb")
    first.init(FRAME, BOX)
    first.update(FRAME)
    second.init(FRAME, BOX)
    second.update(FRAME)
    with pytest.raises(InputError) as raised:
        first.update(FRAME)
    assert str(raised.value) == (
        "another tracker has used this tracker's runtime; "
        "open one for each, or track all targets with one MultiTracker"
    )
    first.init(FRAME, BOX)
    first.update(FRAME)
    with pytest.raises(InputError, match="another tracker has used"):
        second.update(FRAME)


def test_a_tracker_that_is_gone_holds_no_slot():
    runtime = PlayedRuntime([9] * 3)
    for _ in range(2):
        tracker = Tracker(runtime, color="rgb")
        tracker.init(FRAME, BOX)
        assert tracker.update(FRAME).confidence > 0.5
    held = weakref.ref(tracker), weakref.ref(runtime)
    many = MultiTracker(runtime, color="rgb")
    many.remove(many.add(FRAME, BOX))
    tracker.init(FRAME, BOX)
    tracker.update(FRAME)
    del tracker, many, runtime
    gc.collect()
    assert [reference() for reference in held] == [None, None]


def test_the_last_search_can_be_looked_at():
    runtime = PlayedRuntime([7])
    tracker = MultiTracker(runtime, color="rgb")
    target = tracker.add(FRAME, BOX)
    assert tracker.views == {}
    tracker.update(FRAME)
    view = tracker.views[target]
    assert (view.window.left, view.window.top, view.window.side) == (20, 10, 60)
    assert view.logits.max() == view.logits[4, 4] == 7
    tracker.remove(target)
    assert tracker.views == {}
