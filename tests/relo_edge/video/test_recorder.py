"""Boxes and videos out: exact rows, whole files, and a refusal before any work is lost."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from clips import count_frames, draw_frame, write_video
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.box_files import record_boxes, unquote_name
from relo_edge.errors import InputError, SourceError
from relo_edge.host.files import check_output
from relo_edge.host.opencv import cv2
from relo_edge.tracker import Track
from relo_edge.tracking.outputs import Sinks, check_outputs
from relo_edge.video.opening import open_source
from relo_edge.video.recorder import VideoRecorder

HEADER = "frame,target,x,y,w,h,score,confidence,lost"

numbers = st.floats(allow_nan=False, allow_infinity=False)
tracks = st.builds(
    Track, st.tuples(numbers, numbers, numbers, numbers), numbers, numbers, st.booleans()
)


def record(path, rows):
    recorder = record_boxes(path)
    for index, track in enumerate(rows):
        recorder.write(index, 0, track)
    recorder.close()
    recorder.close()


@given(rows=st.lists(tracks, max_size=5))
def test_csv_loses_no_digit(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("boxes") / "out.csv"
    record(path, rows)
    lines = path.read_text().splitlines()
    assert lines[0] == HEADER
    read = list(csv.DictReader(lines))
    assert [row["frame"] for row in read] == [str(index) for index in range(len(rows))]
    for row, track in zip(read, rows, strict=True):
        assert tuple(float(row[key]) for key in "xywh") == track.box
        assert (float(row["score"]), float(row["confidence"])) == (track.score, track.confidence)
        assert row["lost"] == str(int(track.lost))


@given(rows=st.lists(tracks, max_size=5))
def test_json_holds_the_same(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("boxes") / "out.json"
    record(path, rows)
    read = json.loads(path.read_text())
    assert [(row["x"], row["y"], row["w"], row["h"]) for row in read] == [t.box for t in rows]
    assert [row["lost"] for row in read] == [track.lost for track in rows]
    assert all(",".join(row) == HEADER for row in read)


def test_numpy_numbers_are_written_as_plain_ones(tmp_path):
    box = tuple(np.float32([1.5, 2, 3, 4]))
    record(tmp_path / "out.csv", [Track(box, np.float32(0.1), 0.5, False)])
    row = (tmp_path / "out.csv").read_text().splitlines()[1]
    assert row == "0,0,1.5,2.0,3.0,4.0,0.10000000149011612,0.5,0"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("=1+1", "'=1+1"),
        ("+x", "'+x"),
        ("-x", "'-x"),
        ("@x", "'@x"),
        ("'=x", "''=x"),
        ("a=b", "a=b"),
        ("'quoted'", "'quoted'"),
        (7, "7"),
    ],
)
def test_a_name_is_no_formula_in_a_spreadsheet(tmp_path, name, written):
    recorder = record_boxes(tmp_path / "out.csv")
    recorder.write(0, name, Track((1, 2, 3, 4), 1, 1, False))
    recorder.close()
    (row,) = csv.DictReader((tmp_path / "out.csv").read_text().splitlines())
    assert row["target"] == written
    assert unquote_name(written) == str(name)


@pytest.mark.parametrize("name", ["out.csv", "out.json", "out.jsonl", "out.txt", "out.mot.txt"])
def test_a_second_writer_of_boxes_is_refused(tmp_path, name):
    first = record_boxes(tmp_path / name)
    first.write(0, 0, Track((1, 2, 3, 4), 1, 1, False))
    with pytest.raises(InputError, match="is being written"):
        record_boxes(tmp_path / name)
    first.close()
    assert (tmp_path / name).stat().st_size > 4
    record_boxes(tmp_path / name).close()
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_csv_rows_are_on_disk_as_they_come(tmp_path):
    recorder = record_boxes(tmp_path / "out.csv")
    recorder.write(0, 0, Track((1, 2, 3, 4), 1, 1, False))
    assert (tmp_path / "out.csv").read_text().count("\n") == 2
    recorder.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_disk_that_fills_up_is_one_line(tmp_path):
    (tmp_path / "out.csv").symlink_to("/dev/full")
    with pytest.raises(SourceError, match=r"out\.csv' cannot be written: found No space left"):
        record_boxes(tmp_path / "out.csv")


def test_video_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "out.mp4"
    recorder = VideoRecorder(path, 25.0)
    for index in range(7):
        recorder.write(draw_frame(index))
        assert not path.exists()
    recorder.close()
    recorder.close()
    assert count_frames(path) == 7
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == 25.0
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


def test_odd_sizes_are_playable(tmp_path):
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    recorder.write(np.zeros((61, 97, 3), np.uint8))
    recorder.close()
    assert count_frames(tmp_path / "out.mp4") == 1


@pytest.mark.parametrize("name", ["20:53:09.mp4", "20:53:09.webm"])
def test_relative_name_with_a_time_in_it_is_no_protocol(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    recorder = VideoRecorder(Path(name), 30.0)
    recorder.write(np.zeros((64, 96, 3), np.uint8))
    recorder.close()
    assert count_frames(tmp_path / name) == 1


def test_nothing_recorded_leaves_nothing(tmp_path):
    VideoRecorder(tmp_path / "out.mp4", 30.0).close()
    assert list(tmp_path.iterdir()) == []


def test_size_that_changes_is_refused_and_the_rest_kept(tmp_path):
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    recorder.write(draw_frame(0))
    with pytest.raises(SourceError, match="frame size changed: found 50x40, expected 96x64"):
        recorder.write(draw_frame(1, size=(50, 40)))
    recorder.close()
    assert count_frames(tmp_path / "out.mp4") == 1


@pytest.fixture
def no_ffmpeg(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)


@pytest.mark.usefixtures("no_ffmpeg")
def test_video_that_does_not_read_back_is_not_published(tmp_path):
    """What a full disk does: OpenCV writes on without a word."""
    (tmp_path / "out.mp4").write_bytes(b"last week's")
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    recorder.write(draw_frame(0))
    recorder._encoder.release()
    recorder.write(draw_frame(1))
    kept = "1 readable frames of 2; what can be played is in .*out-recovered.mp4"
    with pytest.raises(SourceError, match=kept):
        recorder.close()
    assert (tmp_path / "out.mp4").read_bytes() == b"last week's"
    assert count_frames(tmp_path / "out-recovered.mp4") == 1
    assert len(list(tmp_path.iterdir())) == 2


def test_numbers_left_out_are_filled_with_the_picture_before(tmp_path):
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    for number in (5, 6, 9, 10):
        recorder.write(draw_frame(number), number)
    recorder.close()
    with open_source(str(tmp_path / "out.mp4")) as source:
        levels = [int(frame[40, 60, 0]) for frame in source]
    assert levels == pytest.approx([45, 50, 50, 50, 65, 70], abs=6)


def read_codec(path):
    capture = cv2.VideoCapture(str(path))
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    capture.release()
    return code.to_bytes(4, "little").decode()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_browsers_play_what_ffmpeg_makes(tmp_path, caplog):
    path = tmp_path / "-o:x.mp4"  # neither an option nor a protocol
    recorder = VideoRecorder(path, 29.97)
    for index in range(5):
        recorder.write(draw_frame(index, size=(97, 61)))
    recorder.close()
    assert (read_codec(path), count_frames(path)) == ("h264", 5)
    assert caplog.text == ""


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg")
def test_ffmpeg_that_dies_is_one_line_and_leaves_nothing(tmp_path):
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    recorder.write(draw_frame(0))
    recorder._encoder._child.kill()
    recorder._encoder._child.wait()
    with pytest.raises(SourceError, match="ffmpeg stopped"):
        recorder.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_ffmpeg")
def test_what_browsers_do_not_play_is_said(tmp_path, caplog):
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    recorder.write(draw_frame(0))
    recorder.close()
    assert count_frames(tmp_path / "out.mp4") == 1
    if read_codec(tmp_path / "out.mp4") != "h264":
        assert "browsers do not play: `apt-get install ffmpeg`" in caplog.text


def test_webm_needs_no_ffmpeg(tmp_path):
    recorder = VideoRecorder(tmp_path / "out.webm", 30.0)
    for index in range(4):
        recorder.write(draw_frame(index))
    recorder.close()
    assert (read_codec(tmp_path / "out.webm"), count_frames(tmp_path / "out.webm")) == ("VP80", 4)


@pytest.mark.usefixtures("no_ffmpeg")
def test_no_codec_at_all_is_one_line(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("relo_edge.video.encoding.OPENCV_CODECS", {".mp4": ("none",)})
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    with pytest.raises(SourceError, match="no encoder for a video of 96x64"):
        recorder.write(draw_frame(0))
    recorder.close()
    assert capfd.readouterr().err == ""
    assert list(tmp_path.iterdir()) == []


def make_tracks(count):
    return [Track((1.0 + n, 2.0, 3.0, 4.0), 0.5, 0.25, False) for n in range(count)]


def test_json_lines_keep_the_time(tmp_path):
    recorder = record_boxes(tmp_path / "out.jsonl")
    for frame, track in enumerate(make_tracks(2)):
        recorder.write(frame, "car", track, 0.04 * frame)
        assert (tmp_path / "out.jsonl").read_text().count("\n") == frame + 1
    recorder.close()
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["time"] for row in rows] == [0.0, 0.04]
    assert list(rows[0]) == [*HEADER.split(","), "time"]
    assert rows[1]["target"] == "car"


def test_otb_text_has_a_line_for_every_frame(tmp_path):
    recorder = record_boxes(tmp_path / "out.txt")
    for frame, track in zip((4, 5, 8), make_tracks(3), strict=True):
        recorder.write(frame, 0, track)
    with pytest.raises(InputError, match=r"found a second target.*out\.mot\.txt"):
        recorder.write(9, 1, make_tracks(1)[0])
    recorder.close()
    xs = [line.split(",")[0] for line in (tmp_path / "out.txt").read_text().splitlines()]
    assert xs == ["1.0", "2.0", "3.0", "3.0", "3.0"]


def test_mot_text_counts_from_one(tmp_path):
    recorder = record_boxes(tmp_path / "out.mot.txt")
    for target in ("car", "dog", "car"):
        recorder.write(0, target, make_tracks(1)[0])
    recorder.close()
    rows = (tmp_path / "out.mot.txt").read_text().splitlines()
    assert rows == [f"1,{n},2.0,3.0,3.0,4.0,0.25,-1,-1,-1" for n in (1, 2, 1)]


def test_mot_text_counts_a_row_whose_confidence_is_not_told(tmp_path):
    record(tmp_path / "out.mot.txt", [Track((1.0, 2.0, 3.0, 4.0), math.nan, math.nan, False)])
    assert (tmp_path / "out.mot.txt").read_text() == "1,1,2.0,3.0,3.0,4.0,1.0,-1,-1,-1\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("out.gif", r"found \.gif, expected \.mp4"),
        ("out", r"found no extension, expected \.mp4"),
        ("missing/out.mp4", "output folder .*no such folder; mkdir -p"),
        ("file/out.mp4", "output folder .*found a file; choose another folder"),
        ("file/new/out.mp4", "found .*file', a file, above it; choose another folder"),
        ("folder.mp4", "found a folder, expected a file's name"),
    ],
)
def test_output_that_cannot_be_is_refused(tmp_path, name, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match=message):
        check_output(tmp_path / name, (".mp4",))


def test_unwritable_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # root may write anywhere
    with pytest.raises(InputError, match="no right to write"):
        check_output(tmp_path / "out.mp4", (".mp4",))


def test_source_is_never_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = write_video(tmp_path / "clip.mp4", frames=1)
    with pytest.raises(InputError, match="the source itself"):
        check_outputs(str(source), Sinks(Path("clip.mp4")))
    check_outputs(str(source), Sinks(Path("other.mp4"), [Path("boxes.json")]))
    with pytest.raises(
        InputError, match=r"expected \.csv or \.json or \.jsonl or \.txt or \.mot\.txt"
    ):
        check_outputs(str(source), Sinks(boxes=[Path("boxes.yaml")]))


def test_outputs_are_checked_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    twice = Sinks(boxes=[Path("a.csv"), tmp_path / "a.csv"])
    with pytest.raises(InputError, match="is named twice"):
        check_outputs("0", twice)
    with pytest.raises(InputError, match="--heatmap has no picture to draw on; add --save"):
        Sinks(boxes=[Path("a.csv")], heatmap=True)
