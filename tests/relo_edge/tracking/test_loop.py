"""The tracking loop: what it reports is what happened, and every exit leaves whole files."""

import csv
import json
import os
import signal
import threading
from collections import namedtuple

import numpy as np
import pytest
from cameras import ScriptedCamera
from clips import StillRuntime, count_frames, cut_file, draw_frame, write_video

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.host.signals import catch_interrupt
from relo_edge.tracker import MultiTracker
from relo_edge.tracking.loop import track_feed
from relo_edge.tracking.outputs import Sinks
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.feed import Feed
from relo_edge.video.live import read_live
from relo_edge.video.opening import FrameSource

BOX = (30.0, 20.0, 24.0, 18.0)


def make_source(frames=8):
    return lambda: FrameSource("made", (draw_frame(i) for i in range(frames)), frame_count=frames)


def make_tracker(**kwargs):
    return MultiTracker(StillRuntime(**kwargs), color="bgr")


def track(source, tracker, box=BOX, *, video_path=None, boxes_path=None, show=False, **kwargs):
    """Follow one target, or those in `starts`."""
    starts = kwargs.pop("starts", None) or [TargetStart(box)]
    start = kwargs.pop("start", 0)
    with read_live(source) as reader:
        sinks = Sinks(video_path, [boxes_path] if boxes_path else [], show)
        return track_feed(Feed(reader, start), tracker, starts, sinks, **kwargs)


def read_rows(path):
    with path.open() as lines:
        return list(csv.DictReader(lines))


def press_key(at):
    """What presses Ctrl-C after so many frames."""

    def press(frame, _tracks):
        if frame.number == at:
            signal.raise_signal(signal.SIGINT)

    return press


@pytest.fixture
def usual_interrupt():
    """Ctrl-C as in a shell's foreground, however the tests were started."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


def test_every_frame_is_recorded(tmp_path, capsys):
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.csv"
    tracks = []
    summary = track(
        make_source(8),
        make_tracker(),
        video_path=video,
        boxes_path=boxes,
        on_tracks=lambda _, found: tracks.append(found[0]),
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
    for row, found in zip(rows, tracks, strict=True):
        assert tuple(float(row[key]) for key in "xywh") == found.box
        assert float(row["confidence"]) == found.confidence
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tracking made: 8 frames")


def test_a_full_disk_ends_the_video_and_not_the_run(tmp_path, monkeypatch, caplog):
    usage = namedtuple("usage", "free")
    free = iter([1 << 40] * 4 + [1 << 20] * 99)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(next(free)))
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.csv"
    summary = track(make_source(12), make_tracker(), video_path=video, boxes_path=boxes)
    assert (summary.frames, len(read_rows(boxes))) == (12, 12)
    assert 0 < count_frames(video) < 12
    assert "ends after" in caplog.text
    assert "tracking goes on without it" in caplog.text


def test_several_box_files_hold_the_same(tmp_path):
    paths = [tmp_path / "a.csv", tmp_path / "b.csv"]
    with read_live(make_source(5)) as reader:
        summary = track_feed(Feed(reader), make_tracker(), [TargetStart(BOX)], Sinks(boxes=paths))
    assert summary.outputs == tuple(paths)
    assert paths[0].read_text() == paths[1].read_text()
    assert paths[0].read_text().count("\n") == 6


def test_lost_frames_are_counted(tmp_path):
    boxes = tmp_path / "out.csv"
    summary = track(make_source(8), make_tracker(sure=False), boxes_path=boxes)
    lost = [row["lost"] for row in read_rows(boxes)]
    assert summary.lost_frames == lost.count("1") > 0
    assert lost[0] == "0"
    assert summary.mean_confidence < 0.2


def test_one_frame_has_no_rates():
    summary = track(make_source(1), make_tracker())
    assert (summary.frames, summary.fps, summary.mean_confidence) == (1, None, None)
    assert summary.describe() == "1 frames"


def test_bad_start_box_touches_no_file(tmp_path):
    boxes = tmp_path / "out.csv"
    boxes.write_text("last week's")
    with pytest.raises(InputError, match="outside the frame"):
        track(make_source(), make_tracker(), (500.0, 0.0, 9.0, 9.0), boxes_path=boxes)
    assert boxes.read_text() == "last week's"


def test_bad_output_is_refused_before_the_first_step(tmp_path):
    tracks = []
    with pytest.raises(InputError, match="no such folder"):
        track(
            make_source(),
            make_tracker(),
            boxes_path=tmp_path / "no" / "out.csv",
            video_path=tmp_path / "out.mp4",
            on_tracks=lambda _, found: tracks.append(found),
        )
    assert tracks == []
    assert list(tmp_path.iterdir()) == []


def test_damaged_video_keeps_what_was_tracked(tmp_path):
    whole = write_video(tmp_path / "whole.avi", frames=40, fourcc="MJPG")
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.json"
    cut = str(cut_file(whole, 0.5, tmp_path / "cut.avi"))
    with pytest.raises(SourceError, match="ends early"):
        track(cut, make_tracker(), video_path=video, boxes_path=boxes)
    kept = count_frames(video)
    assert 1 < kept < 40
    assert boxes.read_text().count('"frame"') == kept


@pytest.mark.usefixtures("usual_interrupt")
def test_interrupt_finishes_the_frame_and_keeps_the_rest(tmp_path):
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.json"
    outputs = {"video_path": video, "boxes_path": boxes}
    summary = track(make_source(20), make_tracker(), **outputs, on_tracks=press_key(at=5))
    assert (summary.frames, summary.interrupted) == (6, True)
    assert summary.describe().startswith("interrupted after 6 frames")
    assert count_frames(video) == 6
    assert boxes.read_text().count('"frame"') == 6
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("usual_interrupt")
def test_interrupt_is_heard_while_a_camera_is_silent(tmp_path):
    pressing = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    pressing.start()
    summary = track(ScriptedCamera((2, "hang")), make_tracker(), boxes_path=tmp_path / "o.csv")
    assert (summary.frames, summary.interrupted) == (2, True)
    assert len(read_rows(tmp_path / "o.csv")) == 2
    pressing.join()


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
        target=lambda: summaries.append(track(make_source(3), make_tracker()))
    )
    thread.start()
    thread.join(20)
    assert summaries[0].frames == 3


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
    monkeypatch.setattr("relo_edge.tracking.outputs.Window", FakeWindow)
    summary = track(make_source(8), make_tracker(), show=True)
    assert (summary.frames, summary.interrupted) == (3, False)
    assert FakeWindow.last.closed


def test_no_display_is_told_before_the_first_step(monkeypatch, tmp_path, capfd):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(MissingDependency, match="no window can be shown.*--save"):
        track(make_source(), make_tracker(), show=True, boxes_path=tmp_path / "out.csv")
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_targets_come_and_go_at_their_frames(tmp_path):
    boxes = tmp_path / "out.csv"
    starts = [
        TargetStart(BOX, "b", 4),
        TargetStart(BOX, "a", 2, 5),
        TargetStart((9.0, 9.0, 20.0, 20.0), 2, 6),
    ]
    summary = track(make_source(9), make_tracker(batch=2), starts=starts, boxes_path=boxes)
    assert (summary.frames, summary.targets) == (9, 3)
    seen = {}
    for row in read_rows(boxes):
        seen.setdefault(row["target"], []).append(int(row["frame"]))
    assert seen == {"a": [2, 3, 4], "b": [4, 5, 6, 7, 8], "2": [6, 7, 8]}
    assert "3 targets" in summary.describe()


MISSED = "target 'car' was never started: found no frame 500 in made, whose last is 8; correct"


def test_a_start_that_never_comes_is_told(tmp_path, caplog):
    starts = [TargetStart(BOX, "dog", 2), TargetStart(BOX, "car", 500)]
    summary = track(make_source(9), make_tracker(batch=2), starts=starts)
    assert (summary.targets, [one.message for one in caplog.records]) == (
        1,
        [f"{MISSED} its start frame"],
    )


@pytest.mark.parametrize("live", [False, True])
def test_a_run_without_any_start_is_an_error(tmp_path, live):
    def open_made():
        return FrameSource("made", (draw_frame(i) for i in range(9)), 30.0, 9, live=live)

    found = MISSED.replace("whose last is 8", r"whose last is \d+")
    starts = [TargetStart(BOX, "dog", 900), TargetStart(BOX, "car", 500)]
    with pytest.raises(SourceError, match=found):
        track(open_made, make_tracker(), starts=starts, boxes_path=tmp_path / "out.csv")
    assert read_rows(tmp_path / "out.csv") == []


@pytest.mark.usefixtures("usual_interrupt")
@pytest.mark.parametrize("way", ["Ctrl-C", "window"])
def test_a_run_that_its_user_ends_misses_no_target(monkeypatch, caplog, way):
    monkeypatch.setattr("relo_edge.tracking.outputs.Window", FakeWindow)
    more = {"show": True} if way == "window" else {"on_tracks": press_key(at=2)}
    summary = track(make_source(9), make_tracker(), starts=[TargetStart(BOX, "car", 5)], **more)
    assert (summary.frames, summary.targets) == (3, 0)
    assert not caplog.records


def test_one_target_too_many_ends_with_whole_files(tmp_path):
    starts = [TargetStart(BOX, "a"), TargetStart(BOX, "b", 3)]
    with pytest.raises(InputError, match="at most 1"):
        track(make_source(9), make_tracker(), starts=starts, boxes_path=tmp_path / "out.json")
    assert (tmp_path / "out.json").read_text().count('"frame"') == 3


def test_a_later_start_keeps_the_sources_numbers(tmp_path):
    boxes, video = tmp_path / "out.csv", tmp_path / "out.mp4"
    starts = [TargetStart(BOX, 0, 5)]
    outputs = {"video_path": video, "boxes_path": boxes}
    summary = track(make_source(8), make_tracker(), starts=starts, start=5, **outputs)
    assert summary.frames == count_frames(video) == 3
    assert [row["frame"] for row in read_rows(boxes)] == ["5", "6", "7"]


def test_no_target_is_the_users_mistake():
    with read_live(make_source()) as reader, pytest.raises(InputError, match="no target to track"):
        track_feed(Feed(reader), make_tracker(), [])


def test_a_slow_tracker_drops_a_cameras_frames_and_the_video_keeps_time(tmp_path):
    video, boxes = tmp_path / "out.mp4", tmp_path / "out.jsonl"
    tracker = make_tracker(seconds=0.05)
    outputs = {"video_path": video, "boxes_path": boxes}
    summary = track("synthetic:size=96x64,fps=60,frames=60", tracker, **outputs)
    assert summary.dropped > 0
    assert summary.frames + summary.dropped <= 60
    rows = [json.loads(line) for line in boxes.read_text().splitlines()]
    numbers = [row["frame"] for row in rows]
    assert numbers == sorted(set(numbers))
    assert count_frames(video) == numbers[-1] + 1
    for row in rows:
        assert row["frame"] == pytest.approx(row["time"] * 60, abs=1.0)


def test_the_heatmap_is_drawn_where_it_was_searched(tmp_path):
    plain, heated = tmp_path / "plain.mp4", tmp_path / "heated.mp4"
    for path, heatmap in ((plain, False), (heated, True)):
        with read_live(make_source(3)) as reader:
            sinks = Sinks(path, heatmap=heatmap)
            track_feed(Feed(reader), make_tracker(), [TargetStart(BOX)], sinks)
    with read_live(str(plain)) as one, read_live(str(heated)) as other:
        pairs = [
            (a.image.astype(int), b.image.astype(int)) for a, b in zip(one, other, strict=True)
        ]
    changes = [float(np.abs(one - other).mean()) for one, other in pairs]
    assert changes[0] < 2 < 5 < changes[2]  # in the first frame nothing was searched yet
