"""GStreamer through its own command, where it is installed."""

import os
import shutil
import signal

import numpy as np
import pytest
from browser import wait_for
from cameras import find_child, list_additions, list_holdings

from relo_edge.errors import MissingDependency, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.video.live import FILE_QUEUE_SIZE, ReconnectPolicy, read_live
from relo_edge.video.opening import open_source

needs_gstreamer = pytest.mark.skipif(
    shutil.which("gst-launch-1.0") is None, reason="no gst-launch-1.0"
)
RED = "videotestsrc is-live=true num-buffers={} pattern=red ! video/x-raw,width=322,height=240"


@pytest.fixture(autouse=True)
def nothing_stays():
    before = list_holdings()
    yield
    assert not list_additions(before)


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
    "pipeline",
    [
        "videotestsrc num-buffers=40 ! video/x-raw,width=64,height=64",
        "multifilesrc location={0}/%02d.png stop-index=39 caps=image/png ! pngdec",
        "uridecodebin uri=file://{0}/00.png ! imagefreeze num-buffers=40",
        "urisourcebin uri=file://{0}/00.png ! pngdec ! imagefreeze num-buffers=40",
    ],
)
def test_a_pipeline_that_is_not_live_loses_no_frame(tmp_path, pipeline):
    """Only `filesrc` used to count as a file: a slow tracker lost the rest's frames."""
    for index in range(40):
        frame = np.full((64, 64, 3), 6 * index, np.uint8)
        assert cv2.imwrite(str(tmp_path / f"{index:02}.png"), frame)
    with read_live(pipeline.format(tmp_path)) as reader:
        assert not reader.live
        wait_for(lambda: reader.captured == FILE_QUEUE_SIZE)
        frames = list(reader)
    assert [frame.index for frame in frames] == list(range(40))
    if "multifilesrc" in pipeline:
        levels = [int(frame.image[0, 0, 0]) for frame in frames]
        assert levels == [6 * index for index in range(40)]


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
        child = find_child("gst-launch")
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@needs_gstreamer
def test_a_killed_pipeline_is_started_anew():
    policy = ReconnectPolicy(first_delay=0.01)
    with read_live(RED.format(-1) + ",framerate=60/1", reconnect=policy) as reader:
        next(reader)
        os.kill(find_child("gst-launch"), signal.SIGKILL)
        while not reader.reconnects:
            next(reader)
        assert reader.reconnects == 1
        assert "stopped" in reader.problem


@needs_gstreamer
def test_a_frozen_pipeline_is_started_anew():
    policy = ReconnectPolicy(stall_seconds=0.2, first_delay=0.01)
    with read_live(RED.format(-1) + ",framerate=60/1", reconnect=policy) as reader:
        next(reader)
        os.kill(find_child("gst-launch"), signal.SIGSTOP)
        while not reader.reconnects:
            next(reader)
        assert reader.reconnects == 1


def test_without_gstreamer_it_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingDependency, match="apt-get install gstreamer"):
        open_source("videotestsrc ! videoconvert")


class PlayedCapture:
    """OpenCV's GStreamer, as far as it shows: three frames, then nothing."""

    def __init__(self, pipeline, backend):
        PlayedCapture.asked, self.left = (pipeline, backend), 3

    def isOpened(self):
        return "nosuch" not in self.asked[0]

    def get(self, _):
        return 15.0

    def read(self):
        self.left -= 1
        return (True, np.zeros((64, 64, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        pass


@pytest.fixture
def opencv_alone(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    monkeypatch.setattr(cv2, "VideoCapture", PlayedCapture)


@pytest.mark.usefixtures("opencv_alone")
def test_opencv_runs_it_where_the_command_is_not():
    with open_source("v4l2src ! video/x-raw,width=64 ! appsink") as source:
        assert (source.fps, source.live) == (15.0, True)
        assert len([next(source) for _ in range(3)]) == 3
        with pytest.raises(SourceError, match="pipeline v4l2src stopped"):
            next(source)
    assert PlayedCapture.asked == (
        "v4l2src ! video/x-raw,width=64 ! videoconvert ! video/x-raw,format=BGR ! "
        "appsink max-buffers=1 drop=true sync=false",
        cv2.CAP_GSTREAMER,
    )
    with pytest.raises(SourceError, match="does not start"):
        open_source("nosuch ! videoconvert")


@pytest.mark.usefixtures("opencv_alone")
@pytest.mark.parametrize(
    ("begin", "live"),
    [
        ("filesrc location=x ! decodebin", False),
        ("multifilesrc location=x ! decodebin", False),
        ("uridecodebin uri=file:///x", False),
        ("urisourcebin uri=https://host/x ! decodebin", False),
        ("videotestsrc num-buffers=3", False),
        ("videotestsrc is-live=true num-buffers=3", True),
    ],
)
def test_what_has_an_end_ends_in_opencv_too(begin, live):
    with open_source(f"{begin} ! videoconvert") as source:
        assert source.live == live
        assert len(list(source)) == 3
    assert ("drop=true" in PlayedCapture.asked[0]) == live


@pytest.mark.usefixtures("opencv_alone")
@pytest.mark.parametrize(
    "begin", ["uridecodebin uri=rtsp://host/x", "udpsrc port=5", "pylonsrc", "nvarguscamerasrc"]
)
def test_a_camera_is_live_in_opencv_too(begin):
    with open_source(f"{begin} ! videoconvert") as source:
        assert source.live


@needs_gstreamer
def test_a_picture_that_changes_its_size_is_told(tmp_path):
    for index, side in enumerate((64, 64, 80, 80)):
        assert cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((side, side, 3), np.uint8))
    files = f"multifilesrc location={tmp_path}/%d.png start-index=0 stop-index=3 caps=image/png"
    with (
        open_source(f"{files} ! pngdec") as source,
        pytest.raises(SourceError, match="stopped: found frames of another size"),
    ):
        list(source)
