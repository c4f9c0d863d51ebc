"""Recordings: whole, playable, in step with their boxes, and nowhere but in their folder."""

import csv
import threading
from collections import namedtuple

import pytest
from browser import wait_for
from clips import count_frames, draw_frame
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.errors import InputError, NoSpaceError, SourceError
from relo_edge.serve.recordings import Recordings
from relo_edge.serve.snapshots import NamedTrack
from relo_edge.tracker import Track
from relo_edge.video.live import LiveFrame
from relo_edge.video.recorder import VideoRecorder

TRACKS = (
    NamedTrack(0, "left", Track((1, 2, 30, 40), 0.5, 0.9, lost=False)),
    NamedTrack(3, "right", Track((50, 2, 30, 40), 0.1, 0.2, lost=True)),
)


def make_frame(index, size=(96, 64), fps=25.0):
    return LiveFrame(draw_frame(index % 40, size), index, 0.0, index / fps)


def record(recordings, indices, fps=25.0, source="camera"):
    recordings.start(source, fps)
    for index in indices:
        recordings.write(make_frame(index, fps=fps), TRACKS, 12.0)
    return save(recordings)


def save(recordings):
    """What becomes of the recording that is stopped now."""
    recordings.stop()
    (saved,) = wait_for(recordings.collect)
    return saved


def test_a_slow_encoder_costs_pictures_not_time_nor_boxes(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.serve.recordings.MAX_QUEUED_BYTES", 2 * 96 * 64 * 3)
    holding = threading.Event()
    write, written = VideoRecorder.write, []

    def write_late(recorder, picture, number):
        holding.wait(20)
        written.append(number)
        write(recorder, picture, number)

    monkeypatch.setattr(VideoRecorder, "write", write_late)
    recordings = Recordings(tmp_path)
    recordings.start("camera", 25)
    for index in range(40):
        recordings.write(make_frame(index), TRACKS, None)
    holding.set()
    save(recordings)
    (video,) = tmp_path.glob("*.mp4")
    assert len(written) <= 4
    assert (written[0], written[-1], count_frames(video)) == (0, 39, 40)
    assert len(read_rows(tmp_path)) == 80


def read_rows(folder):
    (path,) = folder.glob("*.csv")
    return list(csv.DictReader(path.open()))


def test_a_recording_is_a_video_and_its_boxes(tmp_path):
    recordings = Recordings(tmp_path / "made" / "here")
    record(recordings, range(100, 106), source="stream rtsp://…@cam/1?x=../..")
    folder = tmp_path / "made" / "here"
    names = sorted(path.name for path in folder.iterdir())
    assert [name.rsplit(".", 1)[1] for name in names] == ["csv", "mp4"]
    assert names[0].startswith("stream-rtsp-cam-1-x-20")
    assert names == sorted(path.name for path in recordings.made)
    assert count_frames(folder / names[1]) == 6
    rows = read_rows(folder)
    assert [(row["frame"], row["target"], row["lost"]) for row in rows[:2]] == [
        ("0", "left", "0"),
        ("0", "right", "1"),
    ]
    assert rows[-1]["frame"] == "5"
    assert {entry["name"] for entry in recordings.files} == set(names)
    assert all(recordings.find(name) == folder / name for name in names)


def test_dropped_frames_keep_their_time_and_pauses_do_not(tmp_path):
    recordings = Recordings(tmp_path)
    # Two dropped, then a pause of 500 frames, then a restart of the source.
    record(recordings, [10, 13, 14, 514, 0, 1], fps=5.0)
    frames = [int(row["frame"]) for row in read_rows(tmp_path)[::2]]
    assert frames == [0, 3, 4, 14, 15, 16]
    (video,) = tmp_path.glob("*.mp4")
    assert count_frames(video) == 17


def test_recordings_of_the_same_second_have_their_own_names(tmp_path):
    recordings = Recordings(tmp_path)
    for _ in range(3):
        assert record(recordings, range(2)).failure is None
    assert len({path.stem for path in recordings.made}) == 3
    assert len(list(tmp_path.iterdir())) == 6


def test_a_recording_without_a_frame_leaves_nothing(tmp_path):
    recordings = Recordings(tmp_path)
    record(recordings, [])
    assert list(tmp_path.iterdir()) == []
    assert (recordings.made, recordings.files) == ([], [])


def test_one_at_a_time(tmp_path):
    recordings = Recordings(tmp_path)
    with pytest.raises(InputError, match="no recording is running"):
        recordings.stop()
    recordings.start("camera", 25)
    with pytest.raises(InputError, match="running already"):
        recordings.start("camera", 25)
    recordings.close()
    recordings.close()


def test_what_is_being_recorded_cannot_be_downloaded_yet(tmp_path):
    recordings = Recordings(tmp_path)
    recordings.start("camera", 25)
    recordings.write(make_frame(0), TRACKS, None)
    name = f"{recordings.current}.csv"
    assert recordings.find(name) is None
    recordings.stop()
    assert recordings.find(name) is None
    recordings.close()
    assert recordings.find(name) == tmp_path / name


def test_a_frame_of_another_size_ends_the_recording_and_keeps_it(tmp_path):
    recordings = Recordings(tmp_path)
    recordings.start("camera", 25)
    for index in range(3):
        recordings.write(make_frame(index), TRACKS, None)
    recordings.write(make_frame(3, (64, 48)), TRACKS, None)
    wait_for(lambda: recordings.write(make_frame(4), TRACKS, None) or not recordings.current)
    ((_, failure),) = recordings.close()
    assert "size changed" in str(failure)
    (video,) = tmp_path.glob("*.mp4")
    assert count_frames(video) == 3


class Held:
    """Keeps videos from being finished until it is opened."""

    def __init__(self, monkeypatch):
        self._open, close = threading.Event(), VideoRecorder.close

        def close_late(recorder):
            assert self._open.wait(20)
            close(recorder)

        monkeypatch.setattr(VideoRecorder, "close", close_late)
        self.release = self._open.set


def test_an_end_that_takes_long_keeps_nobody_waiting(tmp_path, monkeypatch):
    held, recordings = Held(monkeypatch), Recordings(tmp_path)
    for number in (1, 2):
        recordings.start("camera", 25)
        for index in range(3 * number):
            recordings.write(make_frame(index), TRACKS, None)
        recordings.stop()
    assert (recordings.current, len(recordings.saving), recordings.made, recordings.files) == (
        None,
        2,
        [],
        [],
    )
    assert recordings.collect() == []
    with pytest.raises(InputError, match="2 recordings are still being saved"):
        recordings.start("camera", 25)
    held.release()
    saved = recordings.close()
    assert {(one.name, one.failure) for one in saved} == {(p.stem, None) for p in recordings.made}
    assert recordings.saving == []
    assert sorted(count_frames(path) for path in tmp_path.glob("*.mp4")) == [3, 6]


def test_a_video_that_cannot_be_finished_is_told_and_its_boxes_are_kept(tmp_path, monkeypatch):
    close = VideoRecorder.close

    def fail(recorder):
        close(recorder)
        recorder.path.unlink()
        raise SourceError("no space left")

    monkeypatch.setattr(VideoRecorder, "close", fail)
    recordings = Recordings(tmp_path)
    failure = record(recordings, range(3)).failure
    assert str(failure) == "no space left"
    assert [path.suffix for path in recordings.made] == [".csv"]
    assert len(read_rows(tmp_path)) == 6


def test_boxes_that_cannot_be_written_end_the_recording_and_the_video_is_kept(
    tmp_path, monkeypatch
):
    recordings = Recordings(tmp_path)
    recordings.start("camera", 25)
    for index in range(3):
        recordings.write(make_frame(index), TRACKS, None)

    def fail(*_):
        raise SourceError("no space left")

    monkeypatch.setattr(recordings._running._boxes, "write", fail)
    recordings.write(make_frame(3), TRACKS, None)
    assert recordings.current is None
    ((_, failure),) = recordings.close()
    assert str(failure) == "no space left"
    (video,) = tmp_path.glob("*.mp4")
    assert count_frames(video) == 4


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    recordings = Recordings(tmp_path / "file" / "folder")
    with pytest.raises(SourceError, match="folder"):
        recordings.start("camera", 25)
    assert recordings.current is None


@pytest.fixture
def guarded(tmp_path):
    """A folder with a recording, and things that are none of the page's business."""
    (tmp_path / "secret.csv").write_text("secret")
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "a.csv").write_text("boxes")
    (folder / ".hidden.csv").write_text("secret")
    (folder / "notes.txt").write_text("secret")
    (folder / "sub.csv").mkdir()
    (folder / "link.csv").symlink_to(tmp_path / "secret.csv")
    return Recordings(folder)


def test_only_recordings_are_listed(guarded):
    assert guarded.files == [{"name": "a.csv", "bytes": 5}]


NAMES = st.text(st.sampled_from("./\\%2eacsv\0")) | st.sampled_from(
    ["../secret.csv", "link.csv", "sub.csv", ".hidden.csv", "notes.txt", "", ".", "..", "a.csv/"]
)


@given(name=NAMES)
def test_no_name_leads_out_of_the_folder(tmp_path_factory, name):
    folder = tmp_path_factory.getbasetemp() / "one"
    folder.mkdir(exist_ok=True)
    (folder / "a.csv").write_text("boxes")
    found = Recordings(folder).find(name)
    assert found is None or (name == "a.csv" and found == folder / "a.csv")


def test_odd_names_are_not_found(guarded):
    for name in ["../secret.csv", "link.csv", "sub.csv", ".hidden.csv", "notes.txt", ""]:
        assert guarded.find(name) is None


def test_what_a_killed_server_left_is_recovered_and_listed(tmp_path):
    recordings = Recordings(tmp_path)
    record(recordings, range(6))
    (video,) = tmp_path.glob("*.mp4")
    video.rename(tmp_path / ".camera-1.partial.mp4")
    (tmp_path / ".camera-2.partial.mp4").write_bytes(b"torn")
    names = {entry["name"] for entry in Recordings(tmp_path).files}
    assert "camera-1-recovered.mp4" in names
    assert count_frames(tmp_path / "camera-1-recovered.mp4") == 6
    assert not list(tmp_path.glob(".*"))


def test_a_full_disk_ends_a_recording_and_keeps_it(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    free = iter([1 << 40] * 4 + [1 << 20] * 99)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(next(free)))
    recordings = Recordings(tmp_path)
    recordings.start("camera", 25)
    for index in range(12):
        recordings.write(make_frame(index), TRACKS, None)
    (saved,) = recordings.close() or wait_for(recordings.collect)
    assert isinstance(saved.failure, NoSpaceError)
    (video,) = tmp_path.glob("*.mp4")
    assert 0 < count_frames(video) < 12
