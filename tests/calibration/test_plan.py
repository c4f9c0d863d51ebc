"""Plans: as many frames as were asked for, spread evenly, inside the clips, the same again."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.calibration.plan import LONGEST, SHORTEST, plan_runs
from relo_edge.clips.clip import Clip, ClipStart
from relo_edge.errors import InputError
from relo_edge.geometry import box_iou

BOX = (30.0, 20.0, 16.0, 8.0)


def make_clip(frame_count, starts):
    """A clip that nobody reads."""
    truth = np.tile(np.array(BOX), (frame_count, 1)) + np.arange(frame_count)[:, None]
    starts = tuple(ClipStart(frame, BOX) for frame in starts)
    return Clip("planned", frame_count, starts, open, str, truth)


@st.composite
def draw_clips(draw):
    clips = []
    for _ in range(draw(st.integers(1, 12))):
        count = draw(st.integers(2, 300))
        frames = st.lists(st.integers(0, count - 1), min_size=1, max_size=5)
        clips.append(make_clip(count, draw(frames)))
    return clips


seeds = st.integers(0, 2**32)


@pytest.mark.slow
@given(clips=draw_clips(), frames=st.integers(1, 400), seed=seeds)
def test_a_plan_keeps_its_promises(clips, frames, seed):
    runs = plan_runs(clips, frames, seed)
    assert sum(run.length for run in runs) == frames
    assert runs == plan_runs(clips, frames, seed)
    counts = Counter(run.clip for run in runs)
    shares = [counts[clip] for clip in clips]
    assert max(shares) - min(shares) <= 1
    for run in runs:
        assert 1 <= run.length <= LONGEST
        assert len(run.frames) == run.length + 1
        assert run.frames[0] == run.start
        assert run.start in [start.frame for start in run.clip.starts]
        assert all(0 <= frame < run.clip.frame_count for frame in run.frames)
        assert box_iou(run.box, BOX) > 0.5
        assert run.truth[:, 0].tolist() == [BOX[0] + frame for frame in run.frames[1:]]


@pytest.mark.slow
@given(frames=st.integers(100, 400), seed=seeds)
def test_long_clips_are_played_at_every_pace(frames, seed):
    runs = plan_runs([make_clip(300, range(300)) for _ in range(4)], frames, seed)
    paces = {(run.stride, run.backwards) for run in runs[:-1]}
    assert len(paces) == min(6, len(runs) - 1)
    assert {run.length for run in runs[:-1]} == {LONGEST}
    assert len({run.box for run in runs}) == len(runs)


def test_many_clips_still_leave_time_for_a_history():
    runs = plan_runs([make_clip(90, range(90)) for _ in range(150)], 200)
    assert len(runs) == 200 // SHORTEST
    assert {run.length for run in runs} == {SHORTEST}
    assert len({run.clip for run in runs}) == len(runs)


def test_the_only_start_may_be_the_last_frame():
    for run in plan_runs([make_clip(12, [11])], 100):
        assert run.backwards
        assert run.start == 11


def test_other_seed_other_plan():
    clips = [make_clip(90, range(90))]
    assert plan_runs(clips, 60, seed=0) != plan_runs(clips, 60, seed=1)


def test_a_run_without_truth_has_none():
    clip = Clip("video", 9, (ClipStart(0, BOX),), open, str)
    assert plan_runs([clip], 5)[0].truth is None


@pytest.mark.parametrize(
    ("clips", "frames", "message"),
    [
        ([], 200, "calibration clips: found none"),
        ([make_clip(9, [0])], 0, "frames to record: found 0"),
    ],
)
def test_nothing_to_plan(clips, frames, message):
    with pytest.raises(InputError, match=message):
        plan_runs(clips, frames)
