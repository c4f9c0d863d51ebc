"""The door of all sources: what is told apart by name, and what is refused in one line."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from cameras import list_additions, list_holdings
from clips import draw_frame, write_images
from hypothesis import given, settings
from hypothesis import strategies as st

from relo_edge.errors import InputError, MissingDependency, ReloError, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.synthetic.clip import make_clip
from relo_edge.video.opening import open_source
from relo_edge.video.sources import synthetic_camera
from relo_edge.video.sources.pipelines import describe_csi
from relo_edge.video.sources.synthetic_camera import CLIP_FRAMES, order_frames


def test_the_synthetic_camera_keeps_its_pace_and_its_clip(monkeypatch):
    waits = []
    clock = SimpleNamespace(sleep=waits.append, monotonic=lambda: sum(waits))
    monkeypatch.setattr(synthetic_camera, "time", clock)
    with open_source("synthetic:seed=3,size=96x64,fps=100,frames=11") as source:
        assert (source.name, source.fps, source.frame_count, source.live) == (
            "synthetic",
            100.0,
            11,
            True,
        )
        frames = list(source)
    assert sum(waits) == pytest.approx(0.1)  # ten pauses of 1/100 s, by the camera's own clock
    clip = make_clip(3, CLIP_FRAMES, (96, 64)).frames()
    assert all(np.array_equal(frame, next(clip)) for frame in frames)


def test_the_synthetic_camera_turns_back_without_a_jump():
    order = order_frames(4)
    assert [next(order) for _ in range(9)] == [0, 1, 2, 3, 2, 1, 0, 1, 2]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("synthetic:fps=0", "fps: found '0', expected a rate from 1 to 240"),
        ("synthetic:fps=nan", "a rate from 1"),
        ("synthetic:size=10x10", "sides from 64 to 8192"),
        ("synthetic:size=640", "a size such as 640x480"),
        ("synthetic:size=99999999999999999999x99", "sides from 64"),
        ("synthetic:seed=-1", "a whole number from 0"),
        ("synthetic:seed=1,seed=2", "found 'seed=2', expected seed=… size=… fps=… frames=…, each"),
        ("synthetic:colour=red", "found 'colour=red'"),
        ("synthetic:frames=0", "a whole number from 1"),
        ("csi:", "a sensor as in csi:0"),
        ("csi:0,flip=9", "flip: found '9', expected a whole number from 0 to 7"),
        ("csi:0;rm,size=1x1", "a sensor as in csi:0"),
        ("-v a ! b", "found the option -v"),
        ("a ! 'b", "No closing quotation"),
        ("! appsink", "found no element"),
        ("*.nothing", "no image matches the pattern"),
        ("a\nb", r"found 'a\\nb', expected printable characters"),
        ("  ", "found a name of 2 characters"),
        ("x" * 5000, "found a name of 5000 characters"),
        ("x" * 300, "no such file or folder"),
        ("gopher://there", "no such file or folder"),
        ("/dev/zero", "no regular file"),
    ],
)
def test_wrong_names_are_the_users_mistake(source, message):
    with pytest.raises(InputError, match=message) as caught:
        open_source(source)
    assert "\n" not in str(caught.value)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="no regular file"):
        open_source(str(tmp_path / "pipe.mp4"))


def test_an_image_that_is_a_pipe_is_named(tmp_path):
    write_images(tmp_path, ["1.png"])
    os.mkfifo(tmp_path / "2.png")
    with open_source(str(tmp_path)) as source:
        next(source)
        with pytest.raises(SourceError, match=r"2\.png.*another kind of file"):
            next(source)


def test_a_glob_gives_its_images_in_order(tmp_path):
    write_images(tmp_path, ["a10.png", "a9.png", "b1.png"])
    (tmp_path / "a1.txt").write_text("no image")
    with open_source(str(tmp_path / "a*")) as source:
        assert source.frame_count == 2
        assert [int(frame[40, 60, 0]) for frame in source] == [25, 20]


def test_a_file_goes_before_a_word_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cv2.imwrite("csi:0.png", draw_frame(0))
    with pytest.raises(InputError, match="a single image"):
        open_source("csi:0.png")


def test_a_jetson_camera_is_a_pipeline():
    assert describe_csi("csi:1,size=1280x720,fps=60,flip=2") == (
        "nvarguscamerasrc sensor-id=1 ! "
        "video/x-raw(memory:NVMM),width=1280,height=720,framerate=60/1 ! "
        "nvvidconv flip-method=2 ! video/x-raw,format=BGRx"
    )
    assert "width=1920,height=1080,framerate=30/1" in describe_csi("csi:0")


def test_no_jetson_here():
    with pytest.raises((SourceError, MissingDependency), match="pipeline nvarguscamerasrc"):
        open_source("csi:0")


WEIRD = st.text(max_size=12) | st.from_regex(
    r"(synthetic|csi|[a-z]{1,4})?:?[-0-9a-z=,.x!*?\[\]' ]{0,16}", fullmatch=True
)


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(WEIRD.filter(lambda name: "://" not in name))
def test_any_name_is_a_source_or_one_line(name):
    before = list_holdings()
    try:
        with open_source(name):
            pass
    except ReloError as error:
        assert "\n" not in str(error)
    assert not list_additions(before)
