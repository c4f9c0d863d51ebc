"""Frame numbers: a file's own, a camera's by its clock."""

import threading
import weakref
from dataclasses import replace

import numpy as np
import pytest
from clips import write_video
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.errors import InputError, SourceError
from relo_edge.video.feed import MAX_GAP_SECONDS, Feed, FrameNumbering
from relo_edge.video.live import LiveFrame, read_live

IMAGE = np.zeros((4, 4, 3), np.uint8)


class PlayedReader:
    """Gives frames that arrived at given times."""

    name, fps, dropped, over, live = "camera x", 30.0, 7, False, True

    def __init__(self, times):
        self.frames = [LiveFrame(IMAGE, n, time, time) for n, time in enumerate(times)]
        self.captured = len(self.frames)

    def read(self, _timeout):
        if not self.frames:
            self.over = True
            return None
        return self.frames.pop(0)


def number_all(times, start=0):
    feed, frames = Feed(PlayedReader(times), start), []
    while (frame := feed.read()) is not None:
        frames.append(frame)
    return frames


def test_no_frame_is_kept():
    reader = PlayedReader([5.0, 5.1])
    reader.frames[0] = replace(reader.frames[0], image=IMAGE.copy())
    feed = Feed(reader)
    first = weakref.ref(feed.read().image)
    assert feed.read() is not None
    assert first() is None


def test_dropped_frames_leave_gaps():
    frames = number_all([5.0, 5.0333, 5.1, 5.1333, 5.3])
    assert [frame.number for frame in frames] == [0, 1, 3, 4, 9]
    assert frames[-1].time == pytest.approx(0.3)


def test_a_long_break_is_cut():
    frames = number_all([0.0, 0.0333, 600.0, 600.0333])
    assert [frame.number for frame in frames] == [0, 1, 61, 62]
    assert frames[-1].time == pytest.approx(600.0333)


@given(st.lists(st.floats(0, 5), max_size=40))
def test_numbers_rise_and_never_leap(waits):
    frames = number_all(np.cumsum([3.0, *waits]).tolist())
    numbers = [frame.number for frame in frames]
    assert numbers[0] == 0
    steps = np.diff(numbers)
    assert ((steps >= 1) & (steps <= MAX_GAP_SECONDS * 30)).all()


def test_a_file_counts_from_its_own_first_frame(tmp_path):
    with read_live(str(write_video(tmp_path / "clip.mp4", frames=8, fps=25.0))) as reader:
        feed = Feed(reader, 5)
        assert feed.peek().number == feed.peek().number == 5
        taken = [feed.read(), feed.read(), feed.read(), feed.read()]
    assert [frame and frame.number for frame in taken] == [5, 6, 7, None]
    assert taken[0].time == pytest.approx(0.2)


def test_a_start_beyond_the_end(tmp_path):
    with read_live(str(write_video(tmp_path / "clip.mp4", frames=3))) as reader:
        feed = Feed(reader, 3)
        with pytest.raises(SourceError, match="found 3 frames, expected more than 3"):
            feed.peek()
    with pytest.raises(InputError, match="--start: found -1"):
        Feed(reader, -1)


def test_drops_count_from_the_first_frame_on():
    feed = Feed(PlayedReader([0.0, 1.0]))
    feed.read()
    feed.reader.dropped = 9
    assert feed.dropped == 2


def test_a_stop_event_ends_the_feed():
    stop = threading.Event()
    stop.set()
    assert Feed(PlayedReader([0.0])).read(stop) is None


def test_a_clock_that_goes_back_is_counted_on_from():
    """What a restarted file does to a recording."""
    numbering = FrameNumbering(10.0)
    numbers = [numbering.next_number(time) for time in (5.0, 5.1, 5.3, 50.0, 0.0, 0.1, 0.4)]
    assert numbers == [0, 1, 3, 23, 24, 25, 28]
