"""The server over real sockets: what it serves, and to whom, and a clean end."""

import json
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from browser import wait_for
from cameras import list_additions, list_holdings
from clips import StillRuntime, count_frames
from pages import CAMERA, Watcher, fetch, make_tracking, serve
from verbs import run_verb
from websockets.exceptions import ConnectionClosed, InvalidStatus

from relo_edge.errors import InputError, MissingDependency, SourceError
from relo_edge.host.opencv import cv2
from relo_edge.serve.server import PageServer, serve_page

BOX = (40.0, 30.0, 24.0, 18.0)
HELPERS = Path(__file__).parents[2] / "helpers"


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


def test_nothing_is_left_behind(tmp_path):
    # An earlier test's viewer may still be on its way out.
    wait_for(lambda: not any("keepalive" in name for name in list_holdings()[0]))
    before = list_holdings()
    with serve(tmp_path) as server, Watcher(server) as page:
        page.add(BOX)
        page.ask("record")
        page.until(lambda: len(page.heads) > 6)
        page.ask("stop-recording")
        for entry in page.state["files"]:
            assert fetch(server, f"/recordings/{entry['name']}")[0] == 200
        page.ask("record")
        seen = len(page.heads)  # pictures went on while the first was saved
        page.until(lambda: len(page.heads) > seen + 12)
        server.close()
        with pytest.raises(ConnectionClosed):
            page.until(lambda: False)
    wait_for(lambda: not list_additions(before))
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


@pytest.mark.slow
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
        url = json.loads(child.stdout.readline())["url"]
        port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/", url)[1])
        with Watcher(type("Child", (), {"token": None, "port": port})) as page:
            page.ask("record")
            page.until(lambda: len(page.heads) > 8)
            child.send_signal(number)
            out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert child.returncode == 130
    assert err.endswith("relo-edge: interrupted\n")
    assert "http://" not in err
    summary = json.loads(out)
    assert summary["interrupted"] is True
    assert summary["url"] == url
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
    monkeypatch.setattr(
        "relo_edge.pipeline.tracking.open_runtime", lambda *_, **__: StillRuntime(batch=3)
    )
    code, out, err = run_verb(capsys, "serve", *words, "--bundle", "b", "--port", "0")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) <= set(before)
