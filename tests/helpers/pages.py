"""A live page without a browser: a server on a free port, and a viewer."""

import http.client
import json
import socket
import time
from contextlib import ExitStack, contextmanager

from clips import StillRuntime
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from relo_edge.serve.named_targets import build_targets
from relo_edge.serve.recordings import Recordings
from relo_edge.serve.server import PageServer
from relo_edge.serve.worker import TrackingWorker
from relo_edge.video.live import ReconnectPolicy, read_live

CAMERA = "synthetic:size=160x120,fps=60"
SECONDS = 20


def make_tracking(folder, source=CAMERA, runtime=None, starts=(), reconnect=None):
    """A tracking thread that is not started."""
    quick = reconnect or ReconnectPolicy(stall_seconds=3, first_delay=0.05, max_delay=0.1)
    return TrackingWorker(
        lambda: read_live(source, reconnect=quick),
        lambda: build_targets(runtime or StillRuntime(batch=3)),
        Recordings(folder),
        starts,
    )


@contextmanager
def serve(folder, source=CAMERA, host="127.0.0.1", **options):
    """A running server on a free port."""
    with PageServer(make_tracking(folder, source, **options), host, 0) as server:
        yield server


class Watcher:
    """A page's side of the line; it says `seen` for each picture unless told otherwise."""

    def __init__(self, server, eager=True, headers=None, port=None, path="/live"):
        port = port or server.port
        own = {} if server.token is None else {"Cookie": f"relo-edge-{server.port}={server.token}"}
        self._stack = ExitStack()
        opening = connect(
            f"ws://127.0.0.1:{port}{path}",
            origin=f"http://127.0.0.1:{port}",
            additional_headers={**own, **(headers or {})},
            max_size=None,
            compression=None,
        )
        self._line = self._stack.enter_context(opening)
        self.eager = eager
        self.state, self.history, self.head = None, None, None
        self.heads, self.samples, self.answers = [], [], {}
        self._number = 0

    def post(self, message):
        self._line.send(message if isinstance(message, str | bytes) else json.dumps(message))

    def hear(self, timeout=SECONDS):
        """The next message, taken to heart."""
        message = self._line.recv(timeout)
        if isinstance(message, bytes):
            length = int.from_bytes(message[:4], "big")
            self.head = json.loads(message[4 : 4 + length])
            self.head["jpeg"] = message[4 + length :]
            self.heads.append(self.head)
            if self.eager:
                self.post({"do": "seen", "picture": self.head["picture"]})
            return self.head
        note = json.loads(message)
        match note["type"]:
            case "state":
                self.state = note
            case "history":
                self.history = note["samples"]
            case "sample":
                self.samples.append(note)
            case "done" | "error" | "found":
                self.answers[note["id"]] = note
        return note

    def until(self, ready, seconds=SECONDS):
        """Listen until something holds."""
        deadline = time.monotonic() + seconds
        while not (value := ready()):
            assert time.monotonic() < deadline, (self.state, self.answers)
            self.hear()
        return value

    def ask(self, do, **fields):
        """The answer to a command."""
        self._number += 1
        self.post({"do": do, "id": self._number, **fields})
        number = self._number
        return self.until(lambda: self.answers.get(number))

    def add(self, box):
        self.until(lambda: self.head)
        return self.ask("add", picture=self.head["picture"], box=list(box))

    def close(self):
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


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
        got = b""
        try:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            while part := line.recv(65536):
                got += part
        except OSError:
            pass  # it hung up before it had all
        return got


def is_well(server):
    """It still serves the page, and still shows pictures, once it has missed who vanished."""
    assert fetch(server)[0] == 200
    end = time.monotonic() + 10
    while True:
        try:
            with Watcher(server) as page:
                page.until(lambda: len(page.heads) >= 2)
            return server.alive
        except ConnectionClosed:  # every place is still taken
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def mask_text(text):
    """A client's text frame, its mask zero."""
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text.encode()


def upgrade(server, extra=""):
    return (
        f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        f"Origin: http://127.0.0.1:{server.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    ).encode("latin-1")
