"""Hostile or slow pages over real sockets: one line back, no traceback, and nobody else suffers."""

import contextlib
import json
import re
import socket
import time

import numpy as np
import pytest
from browser import wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pages import Watcher, fetch, is_well, mask_text, send_raw, serve, upgrade
from websockets.exceptions import ConnectionClosed

from relo_edge.serve.limits import MAX_CONNECTIONS, MAX_VIEWERS, MESSAGE_BYTES
from relo_edge.video.sources.frames import FrameSource

BOX = (40.0, 30.0, 24.0, 18.0)


def test_every_wrong_message_gets_one_clear_line(server):
    with Watcher(server) as page:
        for message in ("", "{", "[]", b"\x00\xff", '{"do": "reboot", "id": 1}', "[" * 2000):
            page.answers.clear()
            page.post(message)
            answer = page.until(lambda: page.answers.get(None))
            assert "expected" in answer["message"]
        page.answers.clear()
        assert page.ask("remove", target=99)["message"].startswith("target: found 99")
        picture = page.until(lambda: page.head)["picture"]
        for box in ([0, 0, 0, 0], [-500, 0, 5, 5], [0, 0, 9999, 9999]):
            assert page.ask("add", picture=picture, box=box)["type"] == "error"
            picture = page.head["picture"]
        assert "not held" in page.ask("add", picture=10**6, box=[1, 1, 9, 9])["message"]
    assert is_well(server)


def test_too_large_messages_and_broken_text_end_the_line_and_nothing_else(server):
    for message in ("x" * (MESSAGE_BYTES + 1), b"x" * 10**6):
        with Watcher(server) as page:
            page.post(message)
            with pytest.raises(ConnectionClosed):
                page.until(lambda: False)
    assert is_well(server)


def test_a_flood_is_cut_off(server):
    def flood(page):
        for _ in range(5000):
            page.post('{"do": "stop-recording", "id": 1}')
        page.until(lambda: False)

    with Watcher(server, eager=False) as page, pytest.raises(ConnectionClosed):
        flood(page)
    assert is_well(server)


def test_the_ninth_viewer_is_told_that_it_is_full(server):
    wait_for(lambda: not server.site.broadcaster.viewers)
    pages = [Watcher(server) for _ in range(MAX_VIEWERS)]
    try:
        with Watcher(server) as late, pytest.raises(ConnectionClosed) as closed:
            late.hear()
        assert closed.value.rcvd.reason == "too many pages are open"
    finally:
        for page in pages:
            page.close()
    assert is_well(server)


@pytest.mark.slow
def test_connections_that_say_nothing_are_cut_and_bounded(server):
    silent = [
        socket.create_connection(("127.0.0.1", server.port)) for _ in range(MAX_CONNECTIONS + 20)
    ]
    try:
        cut = sum(is_closed(line) for line in silent)
        assert cut >= 20
        wait_for(lambda: all(is_closed(line) for line in silent))
    finally:
        for line in silent:
            line.close()
    assert is_well(server)


def is_closed(line):
    line.settimeout(0.02)
    try:
        return line.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


TRICKLES = {
    "after 200": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "after 404": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "after 405": b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n",
    "after 421": b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    "a body": b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\n",
    "a request": b"GET / HT",
}


@pytest.mark.slow
@pytest.mark.parametrize("opening", TRICKLES.values(), ids=TRICKLES)
def test_connections_that_trickle_lock_nobody_out(server, monkeypatch, opening):
    """A byte now and then used to keep a connection for ever once it had had an answer."""
    monkeypatch.setattr("relo_edge.serve.http_protocol.IDLE_SECONDS", 0.5)
    lines = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MAX_CONNECTIONS)]
    try:
        for line in lines:
            line.sendall(opening)
        wait_for(lambda: all(trickle(line) for line in lines))
    finally:
        for line in lines:
            line.close()
    assert is_well(server)


@pytest.mark.slow
def test_a_trickle_after_a_long_download_is_cut_too(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.serve.http_protocol.IDLE_SECONDS", 0.3)
    size = 32 << 20
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(size)
    with serve(tmp_path) as server, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        line.connect(("127.0.0.1", server.port))
        line.sendall(b"GET /recordings/large.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1)  # the first time limit passes while the answer is under way
        received = 0
        while received < size:
            received += len(line.recv(1 << 20))
        wait_for(lambda: trickle(line))


def trickle(line):
    """Send one byte more; True once the server has hung up."""
    try:
        line.settimeout(0.001)
        line.send(b"x")
        return line.recv(65536) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_a_newcomer_outlives_silent_connections(server):
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(MAX_CONNECTIONS)]
    try:
        for _ in range(5):
            assert fetch(server)[0] == 200
    finally:
        for line in silent:
            line.close()


@pytest.mark.slow
def test_a_download_that_is_not_read_loses_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.serve.http_protocol.SEND_SECONDS", 0.5)
    size = 64 << 20
    with (tmp_path / "large.mp4").open("wb") as file:
        file.truncate(size)
    with serve(tmp_path) as server, socket.socket() as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        line.connect(("127.0.0.1", server.port))
        line.sendall(b"GET /recordings/large.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(2)
        received = 0
        with contextlib.suppress(OSError):
            while part := line.recv(1 << 20):
                received += len(part)
        assert 0 < received < size
        assert is_well(server)


def test_a_viewer_that_reads_nothing_slows_nobody(tmp_path):
    with (
        serve(tmp_path, "synthetic:size=320x240,fps=60") as server,
        socket.create_connection(("127.0.0.1", server.port)) as deaf,
        Watcher(server) as page,
        Watcher(server, eager=False) as slow,
    ):
        deaf.sendall(upgrade(server))
        wait_for(lambda: len(server.site.broadcaster.viewers) == 3)
        page.until(lambda: len(page.heads) > 40)
        first, last = page.heads[5]["picture"], page.heads[-1]["picture"]
        # The quick page misses next to nothing; the slow one says `seen` for nothing, so it is
        # sent no more than two pictures, but every note.
        assert last - first < 2 * (len(page.heads) - 6)
        slow.ask("pause")
        assert slow.state["phase"] == "paused"
        assert len(slow.heads) == 2


def test_a_viewer_that_takes_nothing_any_more_loses_its_place(tmp_path, monkeypatch):
    monkeypatch.setattr("relo_edge.serve.app.SEND_SECONDS", 0.3)
    # Noise makes large pictures, so that the line is soon full.
    noise = np.random.default_rng(0).integers(0, 256, (720, 1280, 3), np.uint8)

    def give():
        while True:
            time.sleep(0.01)
            yield noise

    def camera():
        return FrameSource("noise", give(), live=True)

    with serve(tmp_path, camera) as server, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(upgrade(server))
        wait_for(lambda: server.site.broadcaster.viewers)

        def claim_to_see():
            """Ask for more by saying `seen`, and read none of it."""
            for viewer in list(server.site.broadcaster.viewers):
                for number in list(viewer.in_flight):
                    deaf.sendall(mask_text(f'{{"do": "seen", "picture": {number}}}'))
            return not server.site.broadcaster.viewers

        wait_for(claim_to_see)


@pytest.fixture
def quiet(capfd):
    """Nothing that looks like a traceback is written."""
    yield
    written = "".join(capfd.readouterr())
    assert "Traceback" not in written
    assert "Exception" not in written


SLOW = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WORDS = st.sampled_from(["do", "id", "add", "seen", "picture", "box", "target", "record", "pause"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | WORDS
OBJECTS = st.dictionaries(WORDS | st.text(max_size=9), SCALARS | st.lists(SCALARS, max_size=5))
MESSAGES = OBJECTS.map(json.dumps) | st.text(max_size=200) | st.binary(max_size=200)


@pytest.mark.slow
@SLOW
@given(messages=st.lists(MESSAGES.filter(lambda m: "restart" not in str(m)), max_size=6))
def test_any_messages_are_answered_and_survived(server, quiet, messages):
    with Watcher(server) as page:
        for message in messages:
            page.post(message)
        assert page.ask("remove", target=2**31 - 1)["type"] == "error"
        page.ask("resume")
        page.ask("clear")


LINES = st.one_of(
    st.just(b"Host: localhost"),
    st.just(b"Upgrade: websocket"),
    st.just(b"Connection: Upgrade"),
    st.just(b"Transfer-Encoding: chunked"),
    st.just(b"Content-Length: 99999999999"),
    st.binary(max_size=60),
    st.text(max_size=30).map(lambda text: b"Cookie: " + text.encode("utf-8", "replace")),
)
TARGETS = st.sampled_from(
    [b"/", b"/live", b"/recordings/..", b"*", b"http://x/", b"/%ff", b"/\xff"]
)
REQUESTS = st.builds(
    lambda method, target, lines, body: b"\r\n".join(
        [method + b" " + target + b" HTTP/1.1", *lines, b"", body]
    ),
    st.sampled_from([b"GET", b"POST", b"HEAD", b"G\x00T", b"CONNECT", b"OPTIONS"]),
    TARGETS | st.binary(max_size=40),
    st.lists(LINES, max_size=6),
    st.binary(max_size=40),
)


@pytest.mark.slow
@SLOW
@given(request_=REQUESTS | st.binary(max_size=300))
def test_any_request_is_answered_or_dropped(server, quiet, request_):
    answer = send_raw(server, request_)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in answer
    assert not answer.startswith(b"HTTP/1.1 500")


@pytest.mark.slow
@SLOW
@given(request_=REQUESTS)
def test_no_request_gets_past_the_token(guarded, quiet, request_):
    answer = send_raw(guarded, request_)
    assert b"<html" not in answer
    assert b" 101 " not in answer
    assert re.match(rb"HTTP/1.1 (200|206|303)", answer) is None


@pytest.mark.slow
@SLOW
@given(data=st.binary(max_size=300))
def test_any_bytes_on_an_open_socket_are_survived(server, quiet, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(upgrade(server) + data)
        assert line.recv(12).startswith(b"HTTP/1.1 101")


def test_after_all_that_it_is_still_well(server):
    wait_for(lambda: not server.site.broadcaster.viewers, 30)
    assert is_well(server)
