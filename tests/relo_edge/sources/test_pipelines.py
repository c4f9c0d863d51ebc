"""GStreamer through its own command, where it is installed."""

import os
import shutil
import signal

import numpy as np
import pytest
from cameras import list_children, list_holdings

from relo_edge.errors import MissingDependency, SourceError
from relo_edge.live import Patience, read_live
from relo_edge.opencv import cv2
from relo_edge.video import open_source

needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="no gst-launch-1.0"
)
RED = "videotestsrc is-live=true num-buffers={} pattern=red ! video/x-raw,width=322,height=240"


@pytest.fixture(autouse=True)
def nothing_stays():
    before = list_holdings()
    yield
    assert list_holdings() == before


@needs_gstreamer
@pytest.mark.parametrize("sink", ["", " ! appsink drop=true max-buffers=1"])
def test_a_pipeline_gives_its_frames_blue_first(sink):
    pipeline = RED.format(3) + ",framerate=60/1" + sink
    with open_source(pipeline) as source:
        assert (source.name, source.fps, source.live) == ("pipeline videotestsrc", 60.0, True)
        frames = list(source)
    assert [frame.shape for frame in frames] == [(240, 322, 3)] * 3
    assert np.abs(frames[0].astype(int) - (0, 0, 255)).max() <= 2
    assert all(frame.flags["C_CONTIGUOUS"] for frame in frames)


@needs_gstreamer
def test_a_file_in_a_pipeline_is_not_live(tmp_path):
    assert cv2.imwrite(str(tmp_path / "still.png"), np.zeros((64, 64, 3), np.uint8))
    pipeline = f"filesrc location={tmp_path}/still.png ! pngdec"
    with open_source(pipeline) as source:
        assert not source.live
        assert len(list(source)) == 1


@needs_gstreamer
@pytest.mark.parametrize(
    ("pipeline", "reason"),
    [
        ("nosuchthing ! videoconvert", 'no element "nosuchthing"'),
        ("v4l2src device=/dev/video63 ! videoconvert", "Cannot identify device"),
    ],
)
def test_what_does_not_start_says_why(pipeline, reason):
    with pytest.raises(SourceError, match=reason):
        open_source(pipeline)


@needs_gstreamer
def test_leaving_early_ends_the_child():
    with open_source("videotestsrc is-live=true ! video/x-raw,width=320") as source:
        next(source)
        child = int(list_children()[0])
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@needs_gstreamer
def test_a_killed_pipeline_is_started_anew():
    patience = Patience(first_wait=0.01)
    with read_live(RED.format(-1) + ",framerate=60/1", patience=patience) as reader:
        next(reader)
        os.kill(int(list_children()[0]), signal.SIGKILL)
        while not reader.reconnects:
            next(reader)
        assert "stopped" in reader.problem


@needs_gstreamer
def test_a_frozen_pipeline_is_started_anew():
    patience = Patience(stall=0.2, first_wait=0.01)
    with read_live(RED.format(-1) + ",framerate=60/1", patience=patience) as reader:
        next(reader)
        os.kill(int(list_children()[0]), signal.SIGSTOP)
        while not reader.reconnects:
            next(reader)


def test_without_gstreamer_it_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependency, match="apt-get install gstreamer"):
        open_source("videotestsrc ! videoconvert")
