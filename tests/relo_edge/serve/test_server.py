"""The server over real sockets: hostile messages and requests, slow viewers, and a clean end."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cameras import list_holdings
from clips import StillRuntime, count_frames
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pages import CAMERA, Watcher, make_tracking, serve, wait_for
from verbs import run_verb
from websockets.exceptions import ConnectionClosed, InvalidStatus

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.opencv import cv2
from relo_edge.serve.limits import CONNECTIONS, MESSAGE_BYTES, VIEWERS
from relo_edge.serve.server import PageServer, serve_page
from relo_edge.sources.frames import FrameSource

BOX = (40.0, 30.0, 24.0, 18.0)
HELPERS = Path(__file__).parents[2] / "helpers"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """One server for all that leave it as they found it."""
    with serve(tmp_path_factory.mktemp("takes")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """One that listens to everybody, so that it wants a token."""
    with serve(tmp_path_factory.mktemp("takes"), host="0.0.0.0") as running:
        yield running


def fetch(server, path="/", method="GET", **headers):
    """Status, headers and body."""
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        line.request(method, path, headers=headers)
        answer = line.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        line.close()


def send_raw(server, data, seconds=20):
    """Whatever the server answers to these bytes until it hangs up, or after we are done."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as line:
        line.sendall(data)
        line.shutdown(socket.SHUT_WR)
        got = b""
        try:
            while part := line.recv(65536):
                got += part
        except ConnectionResetError:
            pass
        return got


def is_well(server):
    """It still serves the page, and still shows pictures."""
    assert fetch(server)[0] == 200
    with Watcher(server) as page:
        page.until(lambda: len(page.heads) >= 2)
    return server.alive


def test_the_page_is_served_whole_and_from_here_alone(server):
    status, headers, body = fetch(server)
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'self'" in headers["content-security-policy"]
    named = re.findall(r'(?:src|href)="([\w.]+)"', body.decode())
    assert set(named) == {"page.css", "page.js"}
    for path in ("/page.css", "/page.js", "/plot.js", "/stage.js"):
        status, _, more = fetch(server, path)
        assert (status, len(more) > 500) == (200, True)
        body += more
    assert set(re.findall(rb"https?://[\w.]+", body)) == {b"http://www.w3.org"}


def test_a_viewer_gets_state_history_pictures_and_samples(server):
    with Watcher(server) as page:
        page.until(lambda: page.state and page.history is not None and page.head and page.samples)
        assert page.state["source"] == "synthetic"
        assert page.head["size"] == [160, 120]
        picture = cv2.imdecode(np.frombuffer(page.head["jpeg"], np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (120, 160, 3)
        numbers = [head["picture"] for head in page.heads]
        assert numbers == sorted(set(numbers))


def test_targets_are_shared_by_two_viewers_and_survive_a_reload(server):
    with Watcher(server) as one, Watcher(server) as other:
        assert one.add(BOX)["type"] == "done"
        target = one.state["targets"][0]["target"]
        other.until(lambda: other.head and [t["target"] for t in other.head["tracks"]] == [target])
        with Watcher(server) as reloaded:
            reloaded.until(lambda: reloaded.state)
            assert reloaded.state["targets"] == one.state["targets"]
        assert other.ask("remove", target=target)["type"] == "done"
        one.until(lambda: one.state["targets"] == [])


def test_recordings_are_made_listed_and_downloaded(server):
    with Watcher(server) as page:
        page.add(BOX)
        assert page.ask("record")["type"] == "done"
        page.until(lambda: len(page.heads) > 12)
        assert page.ask("stop-recording")["type"] == "done"
        assert page.ask("clear")["type"] == "done"
        names = [entry["name"] for entry in page.state["files"]]
    boxes = next(name for name in names if name.endswith(".csv"))
    status, headers, body = fetch(server, f"/recordings/{boxes}")
    assert status == 200
    assert boxes in headers["content-disposition"]
    assert body.startswith(b"frame,target,x,y,w,h,score,confidence,lost\n")
    video = next(name for name in names if name.endswith(".mp4"))
    assert fetch(server, f"/recordings/{video}", Range="bytes=0-99")[0] == 206
    assert fetch(server, f"/recordings/{video}", "HEAD")[2] == b""


@pytest.mark.parametrize(
    "path",
    [
        "/recordings/..%2f..%2fetc%2fpasswd",
        "/recordings/../../../../etc/passwd",
        "/recordings/%2e%2e/x.csv",
        "/recordings//etc/passwd",
        "/recordings/%00.csv",
        "/recordings/" + "a" * 5000 + ".csv",
        "/page/../page.js",
        "/%2e%2e/server.py",
        "/recordings",
    ],
)
def test_nothing_else_can_be_had(server, path):
    status, headers, body = fetch(server, path)
    assert status in (404, 307)
    assert len(body) < 100
    assert headers["x-content-type-options"] == "nosniff"


def test_other_hosts_origins_and_methods_are_refused(server):
    assert fetch(server, Host="evil.example")[0] == 421
    assert fetch(server, Origin="http://evil.example")[0] == 403
    for method in ("POST", "PUT", "DELETE"):
        assert fetch(server, method=method)[0] == 405
    with pytest.raises(InvalidStatus):
        Watcher(server, headers={"Host": "evil.example"})


def test_without_the_token_neither_page_nor_socket_is_served(guarded):
    assert guarded.token in guarded.url
    for path in ("/", "/page.js", "/recordings/x.csv", "/live", "/nothing"):
        status, _, body = fetch(guarded, path)
        assert (status, b"html" in body) == (401, False)
        assert guarded.token.encode() not in body
    for headers in ({"Cookie": "a=b"}, {"Cookie": f"relo-edge-{guarded.port}=x"}):
        with pytest.raises(InvalidStatus):
            Watcher(type("Bare", (), {"token": None, "port": guarded.port}), headers=headers)


def test_with_the_token_everything_is(guarded):
    status, headers, body = fetch(guarded, f"/?token={guarded.token}")
    assert (status, headers["location"], body) == (303, "/", b"")
    cookie = headers["set-cookie"].split(";")[0]
    assert b"<html" in fetch(guarded, Cookie=cookie)[2]
    with Watcher(guarded) as page:
        page.until(lambda: page.head)


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
        assert "gone" in page.ask("add", picture=10**6, box=[1, 1, 9, 9])["message"]
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
    wait_for(lambda: not server.hub.viewers)
    pages = [Watcher(server) for _ in range(VIEWERS)]
    try:
        with Watcher(server) as late, pytest.raises(ConnectionClosed) as closed:
            late.hear()
        assert closed.value.rcvd.reason == "too many pages are open"
    finally:
        for page in pages:
            page.close()
    assert is_well(server)


def test_connections_that_say_nothing_are_cut_and_bounded(server):
    silent = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(CONNECTIONS + 20)]
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


def test_a_viewer_that_reads_nothing_slows_nobody(tmp_path):
    with (
        serve(tmp_path, "synthetic:size=320x240,fps=60") as server,
        socket.create_connection(("127.0.0.1", server.port)) as deaf,
        Watcher(server) as page,
        Watcher(server, eager=False) as slow,
    ):
        deaf.sendall(upgrade(server))
        wait_for(lambda: len(server.hub.viewers) == 3)
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
        wait_for(lambda: server.hub.viewers)

        def claim_to_see():
            """Ask for more by saying `seen`, and read none of it."""
            for viewer in list(server.hub.viewers):
                for number in list(viewer._underway):
                    deaf.sendall(mask_text(f'{{"do": "seen", "picture": {number}}}'))
            return not server.hub.viewers

        wait_for(claim_to_see)


def mask_text(text):
    """A client's text frame, its mask zero."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


def upgrade(server, extra=""):
    return (
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Origin: http://127.0.0.1:{server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    ).encode("latin-1")


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


@SLOW
@given(request_=REQUESTS | st.binary(max_size=300))
def test_any_request_is_answered_or_dropped(server, quiet, request_):
    answer = send_raw(server, request_)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in answer
    assert not answer.startswith(b"HTTP/1.1 500")


@SLOW
@given(request_=REQUESTS)
def test_no_request_gets_past_the_token(guarded, quiet, request_):
    answer = send_raw(guarded, request_)
    assert b"<html" not in answer
    assert b" 101 " not in answer
    assert re.match(rb"HTTP/1.1 (200|206|303)", answer) is None


@SLOW
@given(data=st.binary(max_size=300))
def test_any_bytes_on_an_open_socket_are_survived(server, quiet, data):
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(upgrade(server) + data)
        assert line.recv(12).startswith(b"HTTP/1.1 101")


def test_after_all_that_it_is_still_well(server):
    wait_for(lambda: not server.hub.viewers, 30)
    assert is_well(server)


def test_nothing_is_left_behind(tmp_path):
    before = list_holdings()
    with serve(tmp_path) as server, Watcher(server) as page:
        page.add(BOX)
        page.ask("record")
        page.until(lambda: len(page.heads) > 6)
        page.ask("stop-recording")
        for entry in page.state["files"]:
            assert fetch(server, f"/recordings/{entry['name']}")[0] == 200
        page.ask("record")
        page.until(lambda: len(page.heads) > 20)
        server.close()
        with pytest.raises(ConnectionClosed):
            page.until(lambda: False)
    wait_for(lambda: list_holdings() == before)
    _, video = sorted(tmp_path.glob("*.mp4"), key=lambda path: path.stat().st_mtime)
    assert count_frames(video) >= 5


def test_a_missing_extra_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingDependency, match=r"pip install 'relo-edge\[serve\]'"):
        serve_page(make_tracking(tmp_path), "127.0.0.1", 0)


def test_a_taken_port_is_one_line(server, tmp_path):
    with pytest.raises(SourceError, match="choose another --port"):
        PageServer(make_tracking(tmp_path), "127.0.0.1", server.port)


@pytest.mark.parametrize("host", ["no such host", "300.1.1.1", "\udcff", "a" * 300])
def test_a_wrong_address_is_one_line(tmp_path, host):
    with pytest.raises((InputError, SourceError), match="--host|cannot be served"):
        PageServer(make_tracking(tmp_path), host, 0)


CHILD = f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
import relo_edge.runtime
from clips import StillRuntime
relo_edge.runtime.open_runtime = lambda *_, **__: StillRuntime(batch=3)
from relo_edge.cli import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_whole_recordings(tmp_path, number):
    words = ["serve", CAMERA, "--bundle", "b", "--port", "0", "--json", "--init", "40,30,24,18"]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words, "--recordings", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(re.search(r"127\.0\.0\.1:(\d+)/", child.stderr.readline())[1])
        with Watcher(type("Child", (), {"token": None, "port": port})) as page:
            page.ask("record")
            page.until(lambda: len(page.heads) > 8)
            child.send_signal(number)
            out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130
    assert err == "relo-edge: interrupted\n"
    summary = json.loads(out)
    assert summary["interrupted"] is True
    assert sorted(summary["recordings"]) == sorted(str(p) for p in tmp_path.iterdir())
    (video,) = tmp_path.glob("*.mp4")
    assert count_frames(video) >= 5


WRONG = {
    "source": (["nothing.mp4"], "no such file or folder"),
    "box": ([CAMERA, "--init", "1,2"], "--init"),
    "outside": ([CAMERA, "--init", "500,2,5,5"], "box outside the frame"),
    "too many": ([CAMERA, *["--init", "5,5,20,20"] * 4], "at most 3"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line(tmp_path, monkeypatch, capsys, words, message):
    before = threading.enumerate()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("relo_edge.runtime.open_runtime", lambda *_, **__: StillRuntime(batch=3))
    code, out, err = run_verb(capsys, "serve", *words, "--bundle", "b", "--port", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) <= set(before)
