"""Frames in: the right frames in the right order, or one line on why not."""

import os
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from clips import SIZE, cut_file, draw_frame, write_images, write_video

from relo_edge.errors import InputError, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.video.opening import FrameSource, list_images, open_source


def read_all(source):
    with open_source(str(source)) as frames:
        return list(frames)


def test_video_gives_its_frames_and_facts(tmp_path):
    path = write_video(tmp_path / "clip.mp4", frames=12, fps=25.0)
    with open_source(str(path)) as source:
        assert (source.name, source.fps, source.frame_count) == ("clip.mp4", 25.0, 12)
        frames = list(source)
    assert len(frames) == 12
    assert {(frame.dtype, frame.shape) for frame in frames} == {
        (np.dtype(np.uint8), (SIZE[1], SIZE[0], 3))
    }
    levels = [int(frame[40, 60, 0]) for frame in frames]
    assert levels == sorted(set(levels))
    assert np.abs(np.array(levels) - [20 + 5 * index for index in range(12)]).max() <= 6


def test_relative_name_with_a_time_in_it_is_no_protocol(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", frames=3).rename("2026-11-21T20:53:09.mp4")
    assert len(read_all("2026-11-21T20:53:09.mp4")) == 3


def test_colours_come_blue_first(tmp_path):
    frame = read_all(write_video(tmp_path / "clip.mp4", frames=1))[0]
    blue, _, red = frame[12, 12]
    assert red > 200 > 60 > blue


@pytest.mark.parametrize("place", [".", "frames", "img", "imgs"])
def test_sequence_folder_finds_its_images(tmp_path, place):
    write_images(tmp_path / "walk" / place, ["0001.png", "0002.png"])
    (tmp_path / "walk" / "groundtruth.txt").write_text("1,2,3,4\n")
    with open_source(str(tmp_path / "walk")) as source:
        assert (source.name, source.frame_count) == ("walk", 2)
        frames = list(source)
    assert [int(frame[40, 60, 0]) for frame in frames] == [20, 25]


def test_images_come_in_order_of_their_numbers(tmp_path):
    names = [f"frame{n}.png" for n in (10, 9, 1, 100, 2)]
    write_images(tmp_path, [*names, "._frame3.png"])
    numbers = [path.stem for path in list_images(tmp_path)]
    assert numbers == ["frame1", "frame2", "frame9", "frame10", "frame100"]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", np.full((20, 30), 77, np.uint8)),
        ("deep.png", np.full((20, 30, 3), 77 * 257, np.uint16)),
        ("deepgrey.tiff", np.full((20, 30), 77 * 257, np.uint16)),
        ("alpha.png", np.full((20, 30, 4), (77, 77, 77, 9), np.uint8)),
    ],
)
def test_every_kind_of_image_becomes_bgr_uint8(tmp_path, name, image):
    assert cv2.imwrite(str(tmp_path / name), image)
    frame = read_all(tmp_path)[0]
    assert (frame.dtype, frame.shape) == (np.uint8, (20, 30, 3))
    assert (frame == 77).all()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.mp4", "no such file or folder"),
        ("", "no images"),
        ("still.png", "a single image.*pass the folder"),
    ],
)
def test_wrong_source_is_the_users_mistake(tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert cv2.imwrite("still.png", draw_frame(0))
    with pytest.raises(InputError, match=message):
        open_source(source or "empty")


def test_text_that_is_no_video_is_one_line(tmp_path, capfd):
    path = tmp_path / "notes1.mp4"
    path.write_text("hello")
    with pytest.raises(SourceError, match=r"cannot be opened: found 5 bytes.*ffmpeg") as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_truncated_mp4_does_not_open(tmp_path):
    whole = write_video(tmp_path / "whole.mp4")
    with pytest.raises(SourceError, match="cannot be opened"):
        open_source(str(cut_file(whole, 0.6, tmp_path / "cut.mp4")))


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_video_cut_off_gives_what_it_has_then_says_so(tmp_path, suffix):
    whole = write_video(tmp_path / f"whole{suffix}", frames=40, fourcc="MJPG")
    assert len(read_all(whole)) == 40
    cut = cut_file(whole, 0.5, tmp_path / f"cut{suffix}")
    with open_source(str(cut)) as source:
        assert next(source).shape == (SIZE[1], SIZE[0], 3)
        with pytest.raises(SourceError, match=r"ends early: found \d+ frames, expected about 40"):
            list(source)


def test_video_without_a_frame(tmp_path):
    whole = write_video(tmp_path / "whole.avi", frames=3, fourcc="MJPG")
    header = whole.read_bytes().index(b"movi") + 4
    (tmp_path / "bare.avi").write_bytes(whole.read_bytes()[:header])
    with (
        pytest.raises(SourceError, match="no frames|cannot be opened"),
        open_source(str(tmp_path / "bare.avi")) as source,
    ):
        next(source)


def test_a_video_whose_frames_are_all_cut_off_is_one_line(tmp_path, capfd, monkeypatch):
    class Cut:
        """As OpenCV answers when FFmpeg finds nothing whole behind a good header."""

        def __init__(self, _):
            os.write(2, b"[mov] moov found\n")

        def isOpened(self):
            return True

        def get(self, what):
            return 25.0 if what == cv2.CAP_PROP_FPS else 60.0

        def read(self):
            os.write(2, b"[h264 @ 0x1] Invalid NAL unit size\n")
            return False, None

        def release(self):
            """Nothing to give back."""

    monkeypatch.setattr(cv2, "VideoCapture", Cut)
    (tmp_path / "trunc.mp4").touch()
    with pytest.raises(SourceError, match="has no frames that can be decoded; copy it again, or"):
        read_all(tmp_path / "trunc.mp4")
    assert capfd.readouterr().err == ""


def test_unreadable_image_is_named(tmp_path):
    write_images(tmp_path, ["1.png", "2.png", "3.png"])
    cut_file(tmp_path / "1.png", 0.5, tmp_path / "2.png")
    with open_source(str(tmp_path)) as source:
        next(source)
        with pytest.raises(SourceError, match=r"2\.png.*cannot be read: found \d+ bytes"):
            next(source)


def test_image_that_went_away_is_named(tmp_path):
    write_images(tmp_path, ["1.png", "2.png"])
    with open_source(str(tmp_path)) as source:
        next(source)
        (tmp_path / "2.png").unlink()
        with pytest.raises(SourceError, match=r"2\.png.*no such file"):
            next(source)


@pytest.mark.parametrize("index", ["63", "99999999999999"])
def test_camera_that_is_not_there(index, capfd):
    with pytest.raises(SourceError, match=f"camera {index} does not open"):
        open_source(index)
    assert capfd.readouterr().err == ""


class FakeCapture:
    """A camera that stops after three frames and names no rate."""

    def __init__(self, index):
        self.left, self.released = 3, False

    def isOpened(self):
        return True

    def get(self, _):
        return 0.0

    def read(self):
        self.left -= 1
        return (True, draw_frame(self.left)) if self.left >= 0 else (False, None)

    def release(self):
        self.released = True


def test_camera_that_stops(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    with open_source("0") as source:
        assert (source.name, source.fps, source.frame_count) == ("camera 0", 30.0, None)
        for _ in range(3):
            next(source)
        with pytest.raises(SourceError, match="camera 0 stopped: found nothing after 3 frames"):
            next(source)


def test_leaving_early_gives_the_capture_back(tmp_path, monkeypatch):
    captures = []
    monkeypatch.setattr(
        cv2, "VideoCapture", lambda i: captures.append(FakeCapture(i)) or captures[-1]
    )
    with pytest.raises(ZeroDivisionError), open_source("0"):
        _ = 1 / 0
    assert captures[0].released


def test_closed_source_gives_no_more(tmp_path):
    source = open_source(str(write_video(tmp_path / "clip.mp4")))
    next(source)
    source.close()
    source.close()
    assert list(source) == []


def test_a_generator_is_a_source():
    with FrameSource("made", (draw_frame(i) for i in range(3))) as source:
        assert len(list(source)) == 3


def test_variable_rate_is_not_taken_for_damage(tmp_path, monkeypatch):
    """The count of such a file is only its length times its nominal rate."""

    class Sparse(FakeCapture):
        def get(self, what):
            facts = {cv2.CAP_PROP_FPS: 30.0, cv2.CAP_PROP_FRAME_COUNT: 90.0}
            return facts.get(what, (3 - self.left) * 1000.0)

    path = tmp_path / "phone.mkv"
    shutil.copy(__file__, path)
    monkeypatch.setattr(cv2, "VideoCapture", Sparse)
    assert len(read_all(path)) == 3


def make_png(path, width, height):
    """A few kilobytes that decode to this many grey pixels."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes(1 << 20))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("side", [12_000, 30_000, 100_000, 2**31 - 1])
def test_an_image_bomb_is_refused_before_it_is_decoded(tmp_path, side):
    """100000² used to be a traceback, 30000² took 5 GB."""
    make_png(tmp_path / "1.png", side, side)
    tracemalloc.start()
    message = "too large: expected at most 134217728 pixels; set .*OPENCV_IO_MAX_IMAGE_PIXELS=N"
    with pytest.raises(SourceError, match=message if side < 1 << 20 else "too large|cannot be"):
        read_all(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


@pytest.mark.slow
def test_the_pixel_limit_can_be_set(tmp_path):
    write_images(tmp_path, ["1.png"])
    script = "import sys; from relo_edge.video.opening import open_source; "
    script += "list(open_source(sys.argv[1]))"
    for limit, fits in ((SIZE[0] * SIZE[1] - 1, False), (SIZE[0] * SIZE[1], True), ("x", True)):
        environment = {**os.environ, "OPENCV_IO_MAX_IMAGE_PIXELS": str(limit)}
        command = [sys.executable, "-c", script, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert (done.returncode == 0) == fits, done.stderr
        assert ("is too large" in done.stderr) != fits


def test_a_video_of_too_many_pixels_is_refused(tmp_path, monkeypatch):
    path = write_video(tmp_path / "clip.mp4", frames=2)
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "6143")
    with pytest.raises(SourceError, match="found frames of 96x64, expected at most 6143 pixels"):
        open_source(str(path))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".tiff", ".webp", ".ppm"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_truncated_image_is_refused(tmp_path, suffix, share):
    """OpenCV fills the rest of a JPEG with grey, and only warns."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    content = cv2.imencode(suffix, noise)[1].tobytes()
    for number, part in enumerate((content, content[: int(share * len(content))])):
        (tmp_path / f"{number}{suffix}").write_bytes(part)
    with open_source(str(tmp_path)) as source:
        assert next(source).shape == (64, 96, 3)
        with pytest.raises(SourceError, match=f"1{suffix}' cannot be read"):
            next(source)


def test_a_jpeg_with_a_thumbnail_and_a_tail_is_whole(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    for progressive in (0, 1):
        options = [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive]
        jpeg = cv2.imencode(".jpg", noise, options)[1].tobytes()
        thumbnail = cv2.imencode(".jpg", noise[:8, :8])[1].tobytes()
        header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
        whole = jpeg[:2] + header + jpeg[2:]
        (tmp_path / "1.jpg").write_bytes(whole + b"a camera's own data")
        assert len(read_all(tmp_path)) == 1
        (tmp_path / "1.jpg").write_bytes(whole[:-2])
        with pytest.raises(SourceError, match="a JPEG without its end"):
            read_all(tmp_path)


def test_a_source_is_called_nothing_that_commands_a_terminal(tmp_path):
    write_images(tmp_path / "a\x1b[2J\nb", ["1.png"])
    (tmp_path / "link").symlink_to(tmp_path / "a\x1b[2J\nb")
    with open_source(str(tmp_path / "link")) as source:
        assert source.name == "a\\x1b[2J b"
