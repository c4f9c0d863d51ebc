"""A lost target: held, looked for ever wider, found again; and never any of it unasked."""

from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import RedRuntime, show_squares

from relo_edge.errors import InputError
from relo_edge.families.motion import PolicyMotion
from relo_edge.geometry import box_iou, read_box
from relo_edge.lost import Recovery
from relo_edge.runtime import StepResult, open_runtime
from relo_edge.spec import VARIANTS
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import MultiTracker, Tracker

SIZE = (480, 320)
HOME = (60, 60, 32, 32)
AWAY = (190, 90, 32, 32)  # beyond the usual search crop around HOME, within a wider one


def follow(where, recovery, box=HOME):
    """Tracks of one target that is at `where` in each frame, None where it is away."""
    tracker = Tracker(RedRuntime(), color="rgb", recovery=recovery)
    tracker.init(show_squares(SIZE, box), box)
    shown = [show_squares(SIZE, *([place] if place else [])) for place in where]
    return [tracker.update(frame) for frame in shown], tracker.runtime


def test_a_target_that_returns_elsewhere_is_found_again():
    where = [HOME] * 3 + [None] * 8 + [AWAY] * 6
    tracks, _ = follow(where, Recovery())
    assert [track.lost for track in tracks[:5]] == [False] * 5
    assert all(track.lost for track in tracks[5:11])
    assert {track.box for track in tracks[6:11]} == {tracks[2].box}
    assert not tracks[-1].lost
    assert box_iou(tracks[-1].box, AWAY) > 0.8
    without, _ = follow(where, None)
    assert box_iou(without[-1].box, AWAY) < 0.1


def test_what_is_seen_in_doubt_is_taken_back_at_once():
    where = [HOME] * 3 + [None] * 8 + [HOME] * 3 + [None] + [HOME] * 2
    _, runtime = follow(where, Recovery())
    # Lost with the sixth frame, in doubt from the fourth on; once more without being lost.
    assert runtime.rewound == [(frame, 0) for frame in [*range(4, 12), 15]]
    assert runtime.forgotten == [0]
    assert follow(where, None)[1].rewound == []


@pytest.mark.parametrize("name", ["onnxruntime", "pytorch"])
def test_the_networks_state_is_the_last_sure_frames(small_bundle, monkeypatch, name):
    clip = make_clip(2, 14, (320, 240))
    confidences = [0.9, 0.9, 0.1, 0.9, 0.2, 0.2, 0.2, 0.4, 0.4, 0.6, 0.9]
    sure = [index for index, value in enumerate(confidences) if value > 0.5]
    waiting = iter(confidences)
    monkeypatch.setattr(PolicyMotion, "measure_confidence", lambda *_: next(waiting))
    with closing(open_runtime(small_bundle.path, name)) as runtime:
        tracker, frames = Tracker(runtime, color="bgr", recovery=Recovery()), clip.frames()
        tracker.init(next(frames), read_box(clip.boxes[0]))
        tracks, states = [], []
        for _ in confidences:
            tracks.append(tracker.update(next(frames)))
            states.append(runtime.read_state(0)["temporal_tokens"])
    for index in range(1, len(states)):
        assert (states[index] == states[index - 1]).all() == (index not in sure)
    assert [track.lost for track in tracks] == [index in (6, 7, 8) for index in range(11)]
    assert {track.box for track in tracks[6:9]} == {tracks[3].box}


def test_looks_widen_step_by_step_and_begin_again():
    steps = (1.0, 3.0)
    where = [HOME] * 2 + [None] * 3 + [AWAY] * 1 + [None] + [AWAY]
    tracks, _ = follow(where, Recovery(steps=steps))
    # The look as wide as usual misses it; so does an empty wide one; the next narrow one too.
    assert all(track.lost for track in tracks[4:])
    tracks, _ = follow([*where, AWAY], Recovery(steps=steps))
    assert not tracks[-1].lost


@settings(max_examples=40, deadline=None)
@given(
    places=st.lists(
        st.none() | st.tuples(st.integers(-40, 480), st.integers(-40, 320)), max_size=25
    )
)
def test_where_it_is_never_in_doubt_recovery_changes_nothing(places):
    # A target that stays within reach: each step is at most half its size.
    walk, x, y = [], 200, 150
    for place in places:
        if place:
            x, y = x + place[0] % 33 - 16, y + place[1] % 33 - 16
        x, y = min(max(x, 0), 440), min(max(y, 0), 280)
        walk.append((x, y, 32, 32))
    start = (200, 150, 32, 32)
    tracks, runtime = follow(walk, Recovery(), start)
    assert runtime.rewound == []
    assert tracks == follow(walk, None, start)[0]


class WildRuntime(RedRuntime):
    """Answers with anything that a network could."""

    def __init__(self, answers):
        super().__init__()
        self.answers = list(answers)

    def step(self, slots, searches, window):
        box, peak = self.answers.pop(0)
        logits = np.zeros((1, self.variant.grid, self.variant.grid), np.float32)
        logits[0, 4, 4] = peak
        return StepResult(np.float32([box]), np.float32([peak]), logits)


parts = st.floats(0, 1, width=32) | st.floats(width=32)
answers = st.tuples(st.tuples(parts, parts, parts, parts), st.sampled_from([0.0, 30.0, np.nan]))


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    answers=st.lists(answers, max_size=12),
    size=st.tuples(st.integers(12, 300), st.integers(12, 300)),
    start=st.tuples(*[st.floats(0.01, 0.9)] * 4),
    recover=st.booleans(),
)
def test_no_answer_makes_the_box_leave_the_frame(answers, size, start, recover):
    width, height = size
    box = (start[0] * width, start[1] * height, start[2] * width + 1, start[3] * height + 1)
    frame = np.zeros((height, width, 3), np.uint8)
    recovery = Recovery() if recover else None
    tracker = Tracker(WildRuntime(answers), color="rgb", recovery=recovery)
    tracker.init(frame, box)
    for _ in answers:
        track = tracker.update(frame)
        assert np.isfinite([*track.box, track.score, track.confidence]).all()
        if track.box == box:
            continue  # held where the user put it
        x, y, w, h = track.box
        assert x >= 0
        assert y >= 0
        assert x + w <= width * (1 + 1e-12)
        assert y + h <= height * (1 + 1e-12)
        assert min(w, h) >= VARIANTS["demo"].protocol().margin


def test_one_targets_loss_leaves_the_others():
    alone, _ = follow([HOME] * 12, None)
    tracker = MultiTracker(RedRuntime(batch=2), color="rgb", recovery=Recovery())
    both = show_squares(SIZE, HOME, (400, 250, 40, 40))
    kept, lost = tracker.add(both, HOME), tracker.add(both, (400, 250, 40, 40))
    for index in range(12):
        tracks = tracker.update(both if index < 2 else show_squares(SIZE, HOME))
        assert tracks[kept] == alone[index]
        assert tracks[lost].lost == (index >= 4)
    assert [slot for _, slot in tracker.runtime.rewound] == [1] * 10


def test_wide_looks_stop_at_the_whole_frame():
    box = (10, 10, 460, 300)
    tracks, runtime = follow([None] * 10, Recovery(steps=(1e6,)), box)
    assert tracks[-1].lost
    # The held box still fills a visible part of the crop.
    assert (runtime.crops[-1] == 40).mean() > 0.05


@pytest.mark.parametrize(
    "wrong", [{"steps": ()}, {"steps": (0.0,)}, {"steps": (float("nan"),)}, {"resume": 0.0}]
)
def test_a_search_that_cannot_be(wrong):
    with pytest.raises(InputError, match="recovery"):
        Recovery(**wrong)
