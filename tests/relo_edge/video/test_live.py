"""The reader on its own thread: order, drops, ends, breaks, and nothing left behind."""

import logging
import os
import signal
import threading
import time
from itertools import pairwise

import pytest
from cameras import ScriptedCamera, list_additions, list_holdings, number_frame, read_number
from clips import cut_file, write_images, write_video
from hypothesis import given, settings
from hypothesis import strategies as st

from relo_edge.errors import InputError, SourceError
from relo_edge.video.live import FILE_QUEUE_SIZE, LIVE_QUEUE_SIZE, ReconnectPolicy, read_live
from relo_edge.video.sources.frames import FrameSource

QUICK = ReconnectPolicy(stall_seconds=0.05, first_delay=0.01, max_delay=0.02, attempts=2)


@pytest.fixture(autouse=True)
def nothing_stays():
    before = list_holdings()
    yield
    assert not list_additions(before)


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_file_is_read_whole_however_slow_its_reader(tmp_path):
    path = write_video(tmp_path / "clip.mp4", frames=12, fps=25.0)
    with read_live(path) as reader:
        assert (reader.name, reader.fps, reader.frame_count, reader.live) == (
            "clip.mp4",
            25.0,
            12,
            False,
        )
        wait_for(lambda: reader.captured == FILE_QUEUE_SIZE)
        time.sleep(0.05)
        assert reader.captured == FILE_QUEUE_SIZE  # bounded: the rest is not read ahead
        frames = list(reader)
        assert reader.over
        assert reader.state == "ended"
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.media for frame in frames] == pytest.approx([index / 25 for index in range(12)])
    assert all(a.captured <= b.captured for a, b in pairwise(frames))
    assert (reader.dropped, reader.state) == (0, "closed")


def test_a_camera_gives_its_newest_frames_to_a_slow_reader():
    with read_live(ScriptedCamera((60, "end"))) as reader:
        wait_for(lambda: reader.captured == 60)
        frames = list(reader)
    assert [frame.index for frame in frames] == [
        60 - LIVE_QUEUE_SIZE + n for n in range(LIVE_QUEUE_SIZE)
    ]
    assert reader.dropped == 60 - LIVE_QUEUE_SIZE


def test_whoever_wants_the_newest_frame_drops_those_before_it():
    with read_live(ScriptedCamera((60, "end"))) as reader:
        wait_for(lambda: reader.captured == 60)
        assert reader.read_newest(1.0).index == 59
        assert reader.read_newest(1.0) is None
    assert reader.dropped == 59


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.sampled_from([0.0, 0.004]))
def test_order_holds_through_breaks(lives, pause):
    camera = ScriptedCamera((1, "stop"), *((life, "stop") for life in lives), (3, "end"), pause=0)
    policy = ReconnectPolicy(first_delay=0.001, max_delay=0.001, attempts=5)
    with read_live(camera, reconnect=policy) as reader:
        seen = []
        for frame in reader:
            seen.append(frame.index)
            assert read_number(frame.image) == frame.index
            time.sleep(pause)
    assert seen == sorted(set(seen))
    assert len(seen) + reader.dropped == reader.captured == sum(lives) + 4
    assert seen[-1] == reader.captured - 1
    assert reader.reconnects == camera.opened - 1 == len(lives) + 1
    assert camera.closed == camera.opened


def test_a_break_is_said_and_mended(caplog):
    caplog.set_level(logging.WARNING, logger="relo_edge")
    camera = ScriptedCamera((3, "stop"), (0, "refuse"), (2, "end"))
    with read_live(camera, reconnect=QUICK) as reader:
        assert len(list(reader)) + reader.dropped == 5
        assert reader.problem == "camera x does not open"
    said = [record.message for record in caplog.records]
    assert said == [
        "camera x stopped: found nothing after 3 frames; trying again in 0.01 s",
        "camera x does not open; trying again in 0.02 s",
        "camera x is back",
    ]


def test_what_stays_away_is_given_up_after_its_last_frame():
    camera = ScriptedCamera((2, "stop"), (0, "refuse"), (0, "refuse"), (9, "end"))
    with read_live(camera, reconnect=QUICK) as reader:
        wait_for(lambda: reader.state == "failed")
        assert not reader.over
        assert [next(reader).index, next(reader).index] == [0, 1]
        with pytest.raises(SourceError, match="does not open"):
            next(reader)
        with pytest.raises(SourceError, match="does not open"):
            reader.read(0.01)
    assert camera.opened == 3


def test_a_camera_that_is_not_there_is_not_waited_for():
    camera = ScriptedCamera((0, "refuse"), (9, "end"))
    with pytest.raises(SourceError, match="does not open"), read_live(camera, reconnect=QUICK):
        pass
    assert camera.opened == 1


def test_a_silent_camera_is_seen_said_and_started_anew(caplog):
    caplog.set_level(logging.WARNING, logger="relo_edge")
    with read_live(ScriptedCamera((2, "hang"), (2, "end")), reconnect=QUICK) as reader:
        wait_for(lambda: reader.state == "stalled")
        assert len(list(reader)) == 4
        assert reader.reconnects == 1
    assert caplog.records[0].message == "camera x stalled: no frame for 0.05 s"
    assert sum("stalled" in record.message for record in caplog.records) == 1


def test_reading_may_time_out_and_go_on():
    with read_live(ScriptedCamera((1, "hang"))) as reader:
        assert reader.read(5).index == 0
        assert reader.read(0.05) is None
        assert not reader.over


def test_leaving_while_it_waits_for_a_reconnect():
    policy = ReconnectPolicy(first_delay=60, max_delay=60)
    with read_live(ScriptedCamera((1, "stop"), (1, "end")), reconnect=policy) as reader:
        wait_for(lambda: reader.state == "reconnecting")
    assert reader.over


def test_closing_from_another_thread_ends_the_reading():
    with read_live(ScriptedCamera((0, "hang"))) as reader:
        closer = threading.Timer(0.05, reader.close)
        closer.start()
        assert list(reader) == []
        closer.join()


def test_ctrl_c_while_a_camera_opens_leaves_nothing():
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    camera = ScriptedCamera((5, "end"))

    def open_slowly():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.4)
        return camera()

    try:
        with pytest.raises(KeyboardInterrupt), read_live(open_slowly):
            pass
    finally:
        signal.signal(signal.SIGINT, previous)
    assert camera.opened == camera.closed == 1


def test_damage_comes_after_the_frames_before_it(tmp_path):
    write_images(tmp_path, ["1.png", "2.png", "3.png"])
    cut_file(tmp_path / "1.png", 0.5, tmp_path / "3.png")
    with read_live(str(tmp_path)) as reader:
        assert [next(reader).index, next(reader).index] == [0, 1]
        with pytest.raises(SourceError, match=r"3\.png.*cannot be read"):
            next(reader)


@pytest.mark.parametrize("source", ["nowhere.mp4", "synthetic:fps=0", ""])
def test_a_wrong_name_is_the_users_mistake(source):
    with pytest.raises(InputError), read_live(source):
        pass


def test_an_error_of_ours_is_not_swallowed():
    def give():
        yield number_frame(0)
        raise ZeroDivisionError

    with read_live(lambda: FrameSource("made", give(), live=True)) as reader:
        next(reader)
        with pytest.raises(ZeroDivisionError):
            next(reader)


@given(st.integers(1, 10**6))
def test_waits_grow_to_their_limit(attempt):
    policy = ReconnectPolicy(first_delay=0.5, max_delay=10)
    wait = policy.delay_before(attempt)
    assert 0.5 <= wait <= 10
    assert policy.delay_before(attempt + 1) >= wait


@pytest.mark.parametrize(
    "wrong", [{"stall_seconds": 0}, {"first_delay": -1}, {"max_delay": 0.1}, {"attempts": -1}]
)
def test_a_policy_that_cannot_be_is_refused(wrong):
    with pytest.raises(InputError, match="reconnect policy"):
        ReconnectPolicy(**wrong)


def test_a_reader_that_is_not_open_says_so():
    """It used to wait for ever for a thread that nobody had started."""
    reader = read_live("synthetic:frames=3")
    for read in (reader.read, lambda: next(reader)):
        with pytest.raises(InputError, match=r"is not open; use it as `with read_live\("):
            read()
    with reader:
        assert next(reader).index == 0
    assert reader.read() is None
    with pytest.raises(InputError, match="opened before; call read_live again"), reader:
        pass
