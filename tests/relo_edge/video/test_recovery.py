"""Killed runs, full disks and second writers: what was recorded is never lost."""

import os
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
from browser import wait_for
from clips import count_frames, draw_frame

from relo_edge.errors import InputError, NoSpaceError, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.video.encoding import copy_to_mp4
from relo_edge.video.recorder import MIN_FREE_BYTES, VideoRecorder
from relo_edge.video.recovery import recover_folder

HELPERS = Path(__file__).parents[2] / "helpers"
FFMPEG = shutil.which("ffmpeg")

CHILD = f"""
import shutil, sys, time
sys.path.insert(0, {str(HELPERS)!r})
from pathlib import Path
import numpy as np
from relo_edge.video.recorder import VideoRecorder
path, ffmpeg = sys.argv[1:]
if ffmpeg == "without":
    shutil.which = lambda _: None
recorder = VideoRecorder(Path(path), 30.0)
noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8).repeat(4, 0).repeat(4, 1)
for index in range(240):
    recorder.write(np.roll(noise, 3 * index, 1))
print("written", flush=True)
time.sleep(60)
"""


def kill_recording(path, ffmpeg):
    """A process that wrote 240 frames and was killed, and its encoder with it."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), ffmpeg], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout.readline() == "written\n"
        (partial,) = (p for p in path.parent.glob(".*") if ".partial" in p.name)
        wait_for(lambda: partial.stat().st_size > 0)
        encoders = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        for pid in (*map(int, encoders), child.pid):
            os.kill(pid, signal.SIGKILL)
    finally:
        child.kill()
        child.communicate()


def read_all(path):
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.read()[0]:
        count += 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ffmpeg"), [("out.mp4", "with"), ("out.mp4", "without"), ("out.webm", "without")]
)
def test_a_kill_costs_the_last_seconds_only(tmp_path, caplog, name, ffmpeg):
    path = tmp_path / name
    kill_recording(path, ffmpeg)
    assert not path.exists()
    recorder = VideoRecorder(tmp_path / "other.mp4", 30.0)
    recorder.write(draw_frame(0))
    recorder.close()
    recovered = path.with_stem("out-recovered")
    assert f"recovered {recovered}" in caplog.text
    assert read_all(recovered) >= 150
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left - {".out.mp4.lock", ".out.webm.lock"} == {recovered.name, "other.mp4"}


def test_what_holds_no_frame_is_removed_and_links_are_left_alone(tmp_path):
    (tmp_path / ".a.partial.mp4").write_bytes(b"")
    (tmp_path / ".b.partial.mkv").write_bytes(b"no video")
    (tmp_path / ".c.partial.webm").symlink_to("/etc/hostname")
    assert recover_folder(tmp_path) == []
    assert [entry.name for entry in tmp_path.iterdir()] == [".c.partial.webm"]


def test_names_of_recovered_videos_never_collide(tmp_path):
    for _ in range(3):
        recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
        recorder.write(draw_frame(0))
        recorder.close()
        (tmp_path / "out.mp4").rename(tmp_path / ".out.partial.mp4")
        recover_folder(tmp_path)
    names = sorted(entry.name for entry in tmp_path.iterdir())
    assert names == ["out-recovered-2.mp4", "out-recovered-3.mp4", "out-recovered.mp4"]


def test_a_suffix_in_capitals_is_no_other_video(tmp_path):
    """Its partial file has the suffix in lower case, and recovery goes by that."""
    recorder = VideoRecorder(tmp_path / "out.MP4", 30.0)
    for index in range(10):
        recorder.write(draw_frame(index))
    assert recover_folder(tmp_path) == []
    recorder.close()
    assert count_frames(tmp_path / "out.MP4") == 10


def test_what_a_kill_left_of_the_last_copy_is_removed(tmp_path):
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    recorder.write(draw_frame(0))
    recorder.close()
    (tmp_path / "out.mp4").rename(tmp_path / ".out.partial.mp4")
    (tmp_path / ".out.partial.finished.mp4").write_bytes(b"half a copy")
    assert [path.name for path in recover_folder(tmp_path)] == ["out-recovered.mp4"]
    assert [path.name for path in tmp_path.iterdir()] == ["out-recovered.mp4"]


Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def disk(monkeypatch):
    """Free space by hand."""
    free = [MIN_FREE_BYTES]
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, free[0]))
    return free


@pytest.mark.parametrize("ffmpeg", ["with", "without"])
def test_a_disk_that_fills_up_ends_the_video_in_time(tmp_path, disk, monkeypatch, ffmpeg):
    if ffmpeg == "without":
        monkeypatch.setattr("shutil.which", lambda _: None)
        disk[0] += 1 << 20
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    for index in range(40):
        recorder.write(draw_frame(index))
    disk[0] = MIN_FREE_BYTES - 1
    message = "ends after 40 frames: found 63 MB of free disk space, expected at least 64 MB"
    with pytest.raises(NoSpaceError, match=message):
        recorder.write(draw_frame(40))
    recorder.close()
    assert count_frames(tmp_path / "out.mp4") == 40
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_said_before_the_first_frame(tmp_path, disk):
    disk[0] = 0
    recorder = VideoRecorder(tmp_path / "out.mp4", 30.0)
    with pytest.raises(NoSpaceError, match="after 0 frames"):
        recorder.write(draw_frame(0))
    recorder.close()
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_is_refused_and_the_first_is_not_disturbed(tmp_path):
    first = VideoRecorder(tmp_path / "out.mp4", 30.0)
    first.write(draw_frame(0))
    with pytest.raises(InputError, match=r"out\.mp4' is being written: found process"):
        VideoRecorder(tmp_path / "out.mp4", 30.0)
    assert recover_folder(tmp_path) == []
    first.write(draw_frame(1))
    first.close()
    assert count_frames(tmp_path / "out.mp4") == 2
    VideoRecorder(tmp_path / "out.mp4", 30.0).close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]


@pytest.mark.parametrize(
    ("program", "message"),
    [
        pytest.param(
            FFMPEG,
            "ffmpeg cannot finish the video: found",
            marks=pytest.mark.skipif(FFMPEG is None, reason="no ffmpeg"),
        ),
        (None, "OpenCV cannot finish the video; `apt-get install ffmpeg`"),
    ],
    ids=["ffmpeg", "opencv"],
)
def test_a_stream_that_cannot_be_copied_is_one_line(tmp_path, monkeypatch, program, message):
    monkeypatch.setattr("shutil.which", lambda _: program)
    (tmp_path / "x.mkv").write_bytes(b"no video")
    with pytest.raises(SourceError, match=message):
        copy_to_mp4(tmp_path / "x.mkv", tmp_path / "x.mp4")
