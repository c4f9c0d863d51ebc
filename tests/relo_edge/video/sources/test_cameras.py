"""Streams from a real server on this machine, and secrets that are kept."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from browser import wait_for
from clips import draw_frame, write_video

from relo_edge.errors import SourceError
from relo_edge.host.opencv import cv2
from relo_edge.video.live import ReconnectPolicy, read_live
from relo_edge.video.opening import open_source
from relo_edge.video.sources.cameras import hide_secrets


class Camera(BaseHTTPRequestHandler):
    """Sends JPEGs as network cameras do, 20 to a connection."""

    film = b""

    def do_GET(self):
        if self.path.startswith("/missing.mp4"):
            self.send_error(404)
            return
        if self.path.startswith("/page"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>a page, no video</html>")
            return
        self.send_response(200)
        if self.path == "/film.mp4":
            self.send_header("Content-Length", str(len(self.film)))
            self.end_headers()
            self.wfile.write(self.film)
            return
        if self.path == "/broken.avi":
            self.send_header("Content-Length", str(len(self.film)))
            self.end_headers()
            self.wfile.write(self.film[: len(self.film) // 2])
            return
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for index in range(20):
            jpeg = cv2.imencode(".jpg", draw_frame(index))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stream_is_live_and_its_end_is_a_break(address):
    with open_source(f"http://eve:secret@{address}/live?key=1") as source:
        assert (source.name, source.live) == (f"stream http://…@{address}/live?…", True)
        frames = [next(source) for _ in range(10)]
        assert [int(frame[40, 60, 0]) for frame in frames] == pytest.approx(
            [20 + 5 * index for index in range(10)], abs=3
        )
        with pytest.raises(SourceError, match=r"stopped: found nothing after \d+ frames"):
            list(source)


def test_a_stream_that_breaks_is_opened_again(address):
    policy = ReconnectPolicy(first_delay=0.01)
    with read_live(f"http://{address}/live", reconnect=policy) as reader:
        while reader.reconnects < 2:
            next(reader)
        wait_for(lambda: reader.state == "running")  # on a busy machine it has broken again


def test_a_film_on_a_server_is_read_as_a_file(address, tmp_path):
    Camera.film = write_video(tmp_path / "film.mp4", frames=12).read_bytes()
    with read_live(f"http://{address}/film.mp4") as reader:
        assert not reader.live
        assert len(list(reader)) == 12


def test_a_film_that_breaks_off_is_no_whole_one(address, tmp_path):
    Camera.film = write_video(tmp_path / "film.avi", frames=40, fourcc="MJPG").read_bytes()
    frames = []
    with (
        pytest.raises(SourceError, match=r"broken.avi ends early: found \d+ frames, .* about 40;"),
        read_live(f"http://{address}/broken.avi") as reader,
    ):
        frames.extend(reader)
    assert not reader.live
    assert 10 < len(frames) < 30


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing.mp4", "found .*404 Not Found"), ("page", "found (?!no video within)")],
)
def test_what_the_server_says_is_passed_on(address, path, reason):
    """It used to be "no video within 5 s", after some milliseconds."""
    with pytest.raises(SourceError, match=f"does not open: {reason}"):
        open_source(f"http://eve:secret@{address}/{path}?key=1")


def test_nobody_there(capfd):
    with pytest.raises(SourceError, match="does not open: found .*Connection refused") as caught:
        open_source("rtsp://eve:secret@127.0.0.1:9/live")
    assert "secret" not in str(caught.value)
    assert "secret" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://10.0.0.2/live", "rtsp://10.0.0.2/live"),
        ("rtsp://eve:p@ss@10.0.0.2/live", "rtsp://…@10.0.0.2/live"),
        ("http://10.0.0.2/v?user=eve&password=x", "http://10.0.0.2/v?…"),
    ],
)
def test_secrets_are_not_shown(url, shown):
    assert hide_secrets(url) == shown
