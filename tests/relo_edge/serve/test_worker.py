"""The tracking thread: commands in turn, sources that end, break and change, and a clean end."""

import threading

import numpy as np
import pytest
from browser import wait_for
from cameras import ScriptedCamera, list_additions, list_holdings
from clips import StillRuntime, count_frames, write_video
from pages import CAMERA, make_tracking

from relo_edge.errors import InputError, SourceError
from relo_edge.serve.commands import Command
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.live import ReconnectPolicy
from relo_edge.video.recorder import VideoRecorder
from relo_edge.video.sources.frames import FrameSource

BOX = (40.0, 30.0, 24.0, 18.0)


class Ears:
    """Keeps what the thread says."""

    def __init__(self, tracking):
        self.snapshots, self.notes = [], []
        tracking.on_snapshot, tracking.on_event = self.snapshots.append, self.notes.append

    def tracked(self):
        return (
            {track.target: track for track in self.snapshots[-1].tracks} if self.snapshots else {}
        )


@pytest.fixture
def begin(tmp_path):
    """TargetStart a tracking thread; after the test nothing of it is left."""
    before = list_holdings()
    begun = []

    def begin_thread(source=CAMERA, **options):
        tracking = make_tracking(tmp_path / "takes", source, **options)
        begun.append(tracking)
        ears = Ears(tracking)
        tracking.start()
        tracking.wait_opened()
        return tracking, ears

    yield begin_thread
    for tracking in begun:
        tracking.close()
        assert not tracking.alive
        assert tracking.failure is None
    assert not list_additions(before)


def do(tracking, what, snapshot=None, **fields):
    tracking.submit(Command(what, 1, **fields), snapshot).result(10)


def add(tracking, ears, box=BOX):
    wait_for(lambda: ears.snapshots)
    do(tracking, "add", ears.snapshots[-1], picture=ears.snapshots[-1].number, box=box)


def test_targets_are_added_followed_and_removed(begin):
    tracking, ears = begin()
    add(tracking, ears)
    add(tracking, ears, (90.0, 60.0, 20.0, 20.0))
    wait_for(lambda: set(ears.tracked()) == {0, 1} and ears.tracked()[0].track.score == 20.0)
    # The runtime finds each where it was.
    x, y, width, height = ears.tracked()[0].track.box
    assert (x + width / 2, y + height / 2) == pytest.approx((52, 39), abs=2)
    do(tracking, "remove", target=0)
    wait_for(lambda: set(ears.tracked()) == {1})
    add(tracking, ears)
    wait_for(lambda: set(ears.tracked()) == {1, 2})
    do(tracking, "clear")
    wait_for(lambda: not ears.tracked())
    assert tracking.state["targets"] == []


def test_a_refusal_is_one_line_and_changes_nothing(begin):
    tracking, ears = begin(runtime=StillRuntime(batch=1))
    add(tracking, ears)
    for what, fields, message in [
        ("remove", {"target": 7}, "target: found 7"),
        ("add", {"picture": 0, "box": BOX}, "is not held any more"),
        ("stop-recording", {}, "no recording is running"),
    ]:
        with pytest.raises(InputError, match=message):
            do(tracking, what, **fields)
    for box, message in [(BOX, "at most 1"), ((500.0, 0.0, 5.0, 5.0), "outside the frame")]:
        with pytest.raises(InputError, match=message):
            add(tracking, ears, box)
    assert [t["target"] for t in tracking.state["targets"]] == [0]


def test_paused_is_paused_and_a_box_may_be_drawn_meanwhile(begin):
    tracking, ears = begin()
    do(tracking, "pause")
    wait_for(lambda: tracking.state["phase"] == "paused")
    frames, shown = tracking.frames, ears.snapshots[-1].image
    add(tracking, ears)
    assert ears.tracked()[0].track.box == BOX
    assert (tracking.frames, ears.snapshots[-1].image is shown) == (frames, True)
    do(tracking, "resume")
    wait_for(lambda: tracking.frames > frames + 3)


@pytest.mark.slow
def test_a_pause_is_no_waiting(begin, tmp_path):
    """Frames that a file gave before a pause used to count the pause as their latency."""
    clip = write_video(tmp_path / "clip.mp4", frames=40, fps=20)
    tracking, ears = begin(str(clip), starts=[TargetStart((8.0, 8.0, 20.0, 20.0))])
    do(tracking, "pause")
    threading.Event().wait(3)
    ears.notes.clear()
    do(tracking, "resume")
    wait_for(lambda: any(note["type"] == "sample" for note in ears.notes))
    sample = next(note for note in ears.notes if note["type"] == "sample")
    assert sample["ms"]["wait"] < 1000


def test_a_file_waits_for_its_first_box_and_can_be_started_again(begin, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=8, fps=200)
    tracking, ears = begin(str(clip))
    assert (tracking.state["phase"], tracking.state["live"]) == ("paused", False)
    add(tracking, ears, (8.0, 8.0, 20.0, 20.0))
    do(tracking, "resume")
    wait_for(lambda: tracking.state["phase"] == "ended")
    assert tracking.frames == 7
    with pytest.raises(InputError, match="the source has ended"):
        do(tracking, "pause")
    with pytest.raises(InputError, match="the source has ended"):
        do(tracking, "record")
    with pytest.raises(InputError, match="the source has ended; restart it"):
        add(tracking, ears)
    do(tracking, "restart")
    assert (tracking.state["phase"], tracking.state["targets"]) == ("paused", [])
    do(tracking, "resume")
    wait_for(lambda: tracking.frames == 14)


def test_targets_of_the_command_line_come_back_with_a_restart(begin, tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=6, fps=200)
    tracking, ears = begin(str(clip), starts=[TargetStart((8.0, 8.0, 20.0, 20.0), "dog")])
    wait_for(lambda: tracking.state["phase"] == "ended")
    assert [track.name for track in ears.tracked().values()] == ["dog"]
    do(tracking, "restart")
    wait_for(lambda: tracking.frames == 10 and tracking.state["phase"] == "ended")
    assert [target["name"] for target in tracking.state["targets"]] == ["dog"]


def test_a_camera_that_dies_twice_is_mended_and_its_target_followed_on(begin):
    camera = ScriptedCamera((20, "stop"), (20, "stop"), (10**6, "stop"))
    tracking, ears = begin(camera)
    add(tracking, ears, (8.0, 8.0, 20.0, 20.0))
    wait_for(lambda: camera.opened == 3)
    frames = tracking.frames
    wait_for(lambda: tracking.frames > frames + 5)
    assert set(ears.tracked()) == {0}
    assert "reconnecting" in {note.get("phase") for note in ears.notes}


def test_a_camera_that_never_comes_back_is_said_and_can_be_tried_again(begin):
    camera = ScriptedCamera((5, "stop"), (0, "refuse"), (0, "refuse"), (10**6, "stop"))
    tracking, _ = begin(
        camera, reconnect=ReconnectPolicy(first_delay=0.02, max_delay=0.02, attempts=1)
    )
    wait_for(lambda: tracking.state["phase"] == "failed")
    assert "camera x does not open" in tracking.state["notice"]
    with pytest.raises(SourceError, match="does not open"):
        do(tracking, "restart")
    assert tracking.alive
    do(tracking, "restart")
    wait_for(lambda: tracking.state["phase"] == "running" and tracking.state["notice"] is None)


def test_a_picture_of_another_size_drops_the_targets_and_goes_on(begin):
    frames = [np.zeros((48, 64, 3), np.uint8)] * 30 + [np.zeros((60, 80, 3), np.uint8)] * 10**4

    def give():
        for frame in frames:
            threading.Event().wait(0.005)
            yield frame

    tracking, ears = begin(lambda: FrameSource("camera", give(), live=True))
    add(tracking, ears, (8.0, 8.0, 20.0, 20.0))
    wait_for(lambda: tracking.state["notice"])
    assert "size changed" in tracking.state["notice"]
    assert tracking.state["targets"] == []
    add(tracking, ears, (8.0, 8.0, 20.0, 20.0))
    wait_for(lambda: ears.tracked())


def test_a_recording_is_whole_when_its_end_is_confirmed_and_when_the_thread_ends(begin):
    tracking, ears = begin()
    add(tracking, ears)
    for _ in range(2):
        before = tracking.frames
        do(tracking, "record")
        wait_for(lambda before=before: tracking.frames > before + 5)
        if not tracking.recordings.made:
            do(tracking, "stop-recording")
            assert len(tracking.recordings.made) == 2
    tracking.close()
    videos = [path for path in tracking.recordings.made if path.suffix == ".mp4"]
    assert len(videos) == 2
    assert all(count_frames(path) >= 5 for path in videos)
    assert not list(tracking.recordings.folder.glob(".*"))


@pytest.fixture
def held(monkeypatch):
    """Videos are finished once this is set."""
    opened, close = threading.Event(), VideoRecorder.close
    monkeypatch.setattr(
        VideoRecorder, "close", lambda recorder: opened.wait(20) and close(recorder)
    )
    yield opened
    opened.set()


def test_tracking_goes_on_while_a_recording_is_saved(begin, held):
    tracking, ears = begin()
    add(tracking, ears)
    do(tracking, "record")
    before = tracking.frames
    wait_for(lambda: tracking.frames > before + 5)
    ended, told = tracking.submit(Command("stop-recording", 1)), []
    ended.add_done_callback(lambda _: told.append(tracking.state))
    wait_for(lambda: tracking.state["saving"])
    before = tracking.frames
    wait_for(lambda: tracking.frames > before + 5)
    do(tracking, "pause")
    do(tracking, "resume")
    do(tracking, "record")
    assert not ended.done()
    assert (len(tracking.state["saving"]), tracking.state["files"]) == (1, [])
    held.set()
    ended.result(10)
    # Whoever hears that it is saved knows its files already, and they are whole.
    assert told[0]["saving"] == []
    (video,) = (path for path in tracking.recordings.made if path.suffix == ".mp4")
    assert video.name in {entry["name"] for entry in told[0]["files"]}
    assert count_frames(video) >= 5


def test_closing_waits_for_what_is_being_saved(begin, held):
    tracking, ears = begin()
    add(tracking, ears)
    do(tracking, "record")
    before = tracking.frames
    wait_for(lambda: tracking.frames > before + 5)
    ended = tracking.submit(Command("stop-recording", 1))
    wait_for(lambda: tracking.state["saving"])
    closing = threading.Thread(target=tracking.close)
    closing.start()
    closing.join(0.2)
    assert closing.is_alive()
    assert not ended.done()
    held.set()
    closing.join(10)
    ended.result(0)
    assert [count_frames(p) >= 5 for p in tracking.recordings.made if p.suffix == ".mp4"] == [True]


def test_a_recording_that_cannot_be_saved_is_said_to_who_asked(begin, monkeypatch):
    close = VideoRecorder.close

    def fail(recorder):
        close(recorder)
        raise SourceError("no space left")

    monkeypatch.setattr(VideoRecorder, "close", fail)
    tracking, ears = begin()
    add(tracking, ears)
    do(tracking, "record")
    with pytest.raises(SourceError, match="no space left"):
        do(tracking, "stop-recording")
    assert tracking.alive


def test_a_recording_that_breaks_by_itself_is_said_to_all(begin, monkeypatch):
    def fail(*_):
        raise SourceError("no space left")

    monkeypatch.setattr(VideoRecorder, "write", fail)
    tracking, ears = begin()
    add(tracking, ears)
    do(tracking, "record")
    wait_for(lambda: tracking.state["notice"])
    assert tracking.state["notice"] == "the recording ended: no space left"
    assert (tracking.state["recording"], tracking.state["saving"]) == (None, [])
    before = tracking.frames
    wait_for(lambda: tracking.frames > before + 3)


def test_what_does_not_open_is_raised_at_once(tmp_path):
    before = list_holdings()
    tracking = make_tracking(tmp_path, "no-such-file.mp4")
    tracking.start()
    with pytest.raises(InputError, match="no such file"):
        tracking.wait_opened()
    tracking.close()
    assert not list_additions(before)


def test_a_start_that_is_refused_gives_source_and_runtime_back(tmp_path):
    before, runtime = list_holdings(), StillRuntime(batch=3)
    start = TargetStart((500.0, 0.0, 5.0, 5.0), "away")
    tracking = make_tracking(tmp_path, runtime=runtime, starts=[start])
    tracking.start()
    with pytest.raises(InputError, match="outside the frame"):
        tracking.wait_opened()
    tracking.close()
    assert runtime.closed
    assert not list_additions(before)


def test_commands_after_the_end_are_refused_not_left_waiting(begin):
    tracking, _ = begin()
    tracking.close()
    with pytest.raises(InputError, match="closing"):
        do(tracking, "pause")


def test_a_flood_of_commands_is_refused_not_queued(begin):
    tracking, _ = begin(runtime=StillRuntime(batch=3, seconds=0.3))
    done = [tracking.submit(Command("stop-recording", number)) for number in range(200)]
    messages = {str(future.exception(30)) for future in done}
    assert any("too many commands" in message for message in messages)


def test_a_bug_ends_the_thread_with_its_name(tmp_path):
    runtime = StillRuntime(batch=3)
    tracking = make_tracking(tmp_path, runtime=runtime)
    ears = Ears(tracking)
    tracking.start()
    tracking.wait_opened()
    try:
        runtime.step = lambda *_: 1 / 0
        add(tracking, ears)
        wait_for(lambda: not tracking.alive)
        assert isinstance(tracking.failure, ZeroDivisionError)
        assert runtime.closed
    finally:
        tracking.close()


def test_latency_is_told_by_stage(begin):
    tracking, ears = begin(runtime=StillRuntime(batch=3, seconds=0.02))
    add(tracking, ears)
    samples = lambda: [note for note in ears.notes if note["type"] == "sample"]  # noqa: E731
    wait_for(lambda: any("network" in sample["ms"] for sample in samples()[1:]))
    last = samples()[-1]
    assert set(last["ms"]) == {"wait", "crop", "network"}
    assert last["ms"]["network"] >= 20
    assert 0 < last["fps"] <= 50
    assert list(tracking.times.history)[-1]["fps"] >= 0
