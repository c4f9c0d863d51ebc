"""The tracking loop: what it reports is what happened, and every exit leaves whole files."""

import csv
import math
import signal
import threading

import pytest
from clips import StillRuntime, count_frames, cut_file, draw_frame, write_video

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.interrupt import catch_interrupt
from relo_edge.session import parse_box, track_source
from relo_edge.tracker import Tracker
from relo_edge.video import FrameSource, open_source

BOX = (30.0, 20.0, 24.0, 18.0)


def make_source(frames=8, **kwargs):
    return FrameSource("made", (draw_frame(i) for i in range(frames)), frame_count=frames, **kwargs)


def make_tracker(**kwargs):
    return Tracker(StillRuntime(**kwargs), color="bgr")


def read_rows(path):
    with path.open() as lines:
        return list(csv.DictReader(lines))


def press_key(at, frames=20):
    """Frames during one of which Ctrl-C is pressed."""
    for index in range(frames):
        if index == at:
            signal.raise_signal(signal.SIGINT)
        yield draw_frame(index)


@pytest.fixture
def usual_interrupt():
    """Ctrl-C as in a shell's foreground, however the tests were started."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_every_frame_is_recorded(tmp_path, capsys):
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.csv"
    tracks = []
    summary = track_source(
        make_source(8),
        make_tracker(),
        BOX,
        video_path=video,
        boxes_path=boxes,
        on_track=tracks.append,
    )
    assert (summary.frames, summary.interrupted, summary.lost_frames) == (8, False, 0)
    assert summary.outputs == (video, boxes)
    assert summary.tracker_fps >= summary.fps > 0
    assert summary.mean_confidence == pytest.approx(1.0, abs=1e-3)
    assert count_frames(video) == 8
    rows = read_rows(boxes)
    assert [int(row["frame"]) for row in rows] == list(range(8))
    assert [(row["target"], row["lost"]) for row in rows] == [("0", "0")] * 8
    assert [float(rows[0][key]) for key in "xywh"] == list(BOX)
    assert (rows[0]["score"], rows[0]["confidence"]) == ("1.0", "1.0")
    for row, track in zip(rows[1:], tracks, strict=True):
        assert tuple(float(row[key]) for key in "xywh") == track.box
        assert float(row["confidence"]) == track.confidence
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tracking made: 8 frames")


def test_lost_frames_are_counted(tmp_path):
    boxes = tmp_path / "out.csv"
    summary = track_source(make_source(8), make_tracker(sure=False), BOX, boxes_path=boxes)
    lost = [row["lost"] for row in read_rows(boxes)]
    assert summary.lost_frames == lost.count("1") > 0
    assert lost[0] == "0"
    assert summary.mean_confidence < 0.1


def test_one_frame_has_no_rates():
    summary = track_source(make_source(1), make_tracker(), BOX)
    assert (summary.frames, summary.fps, summary.mean_confidence) == (1, None, None)
    assert summary.describe() == "1 frames"


def test_bad_start_box_touches_no_file(tmp_path):
    boxes = tmp_path / "out.csv"
    boxes.write_text("last week's")
    with pytest.raises(InputError, match="outside the frame"):
        track_source(make_source(), make_tracker(), (500.0, 0.0, 9.0, 9.0), boxes_path=boxes)
    assert boxes.read_text() == "last week's"


def test_bad_output_is_refused_before_the_first_step(tmp_path):
    tracks = []
    with pytest.raises(InputError, match="no such folder"):
        track_source(
            make_source(),
            make_tracker(),
            BOX,
            boxes_path=tmp_path / "no" / "out.csv",
            video_path=tmp_path / "out.mp4",
            on_track=tracks.append,
        )
    assert tracks == []
    assert list(tmp_path.iterdir()) == []


def test_damaged_video_keeps_what_was_tracked(tmp_path):
    whole = write_video(tmp_path / "whole.avi", frames=40, fourcc="MJPG")
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.json"
    with (
        open_source(str(cut_file(whole, 0.5, tmp_path / "cut.avi"))) as source,
        pytest.raises(SourceError, match="ends early"),
    ):
        track_source(source, make_tracker(), BOX, video_path=video, boxes_path=boxes)
    kept = count_frames(video)
    assert 1 < kept < 40
    assert boxes.read_text().count('"frame"') == kept


@pytest.mark.usefixtures("usual_interrupt")
def test_interrupt_finishes_the_frame_and_keeps_the_rest(tmp_path):
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.json"
    source = FrameSource("made", press_key(at=5))
    summary = track_source(source, make_tracker(), BOX, video_path=video, boxes_path=boxes)
    assert (summary.frames, summary.interrupted) == (6, True)
    assert summary.describe().startswith("interrupted after 6 frames")
    assert count_frames(video) == 6
    assert boxes.read_text().count('"frame"') == 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("usual_interrupt")
def test_second_interrupt_breaks_off():
    with catch_interrupt() as pressed:
        signal.raise_signal(signal.SIGINT)
        assert pressed.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_tracking_in_a_thread_leaves_signals_alone():
    summaries = []
    thread = threading.Thread(
        target=lambda: summaries.append(track_source(make_source(3), make_tracker(), BOX))
    )
    thread.start()
    thread.join(20)
    assert summaries[0].frames == 3


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,x,4", "1;2;3;4"])
def test_box_that_is_not_four_numbers(text):
    with pytest.raises(InputError, match="--init: found .*expected four numbers"):
        parse_box(text)


def test_box_is_read():
    assert parse_box("1, 2.5,3e1,-4") == (1.0, 2.5, 30.0, -4.0)
    assert math.isnan(parse_box("nan,1,1,1")[0])


class FakeWindow:
    """Its user leaves after the third picture."""

    def __init__(self, title):
        self.shown, self.closed = 0, False
        FakeWindow.last = self

    def show(self, frame):
        self.shown += 1
        return self.shown < 3

    def close(self):
        self.closed = True


def test_closing_the_window_ends_the_run(monkeypatch):
    monkeypatch.setattr("relo_edge.session.Window", FakeWindow)
    summary = track_source(make_source(8), make_tracker(), BOX, show=True)
    assert (summary.frames, summary.interrupted) == (3, False)
    assert FakeWindow.last.closed


def test_no_display_is_told_before_the_first_step(monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MissingDependency, match="no window can be shown.*--save"):
        track_source(make_source(), make_tracker(), BOX, show=True, boxes_path=tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""
