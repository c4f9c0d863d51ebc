"""Requests, sockets and messages from strangers and from pages, against a running server.

An attack starts a server of its own, sends its probes, and then the server must still be well.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from harness import Act, Attack
from pages import Watcher, is_well, mask_text, send_raw, serve, upgrade
from websockets.exceptions import ConnectionClosed

from relo_edge.serve import http_protocol
from relo_edge.serve.limits import MAX_CONNECTIONS, MESSAGE_BYTES

Server = Any
Probe = Callable[[Server], object]

SHARE = 40
"""Random probes of each kind."""

SECONDS = 3


def list_attacks() -> Iterator[Attack]:
    """Every one of this kind."""
    for name, requests in REQUESTS.items():
        yield Attack(f"http {name}", _attack(partial(_send_requests, requests)))
        yield Attack(
            f"http {name}, no token", _attack(partial(_send_requests, requests), "0.0.0.0")
        )
    for name, data in FRAMES.items():
        yield Attack(f"websocket {name}", _attack(partial(_send_frames, data)))
    for name, messages in MESSAGES.items():
        yield Attack(f"messages {name}", _attack(partial(_send_messages, messages)))
    for name, probe in CONNECTIONS.items():
        yield Attack(f"connections {name}", _attack(probe))
        yield Attack(f"connections {name}, no token", _attack(probe, "0.0.0.0"))


def _attack(probe: Probe, host: str = "127.0.0.1") -> Callable[[Path, Path], Act]:
    def prepare(folder: Path, _canary: Path) -> Act:
        (folder / "recordings").mkdir()
        (folder / "secret.csv").write_text("secret")
        (folder / "recordings" / "link.csv").symlink_to(folder / "secret.csv")
        return partial(_run, probe, folder / "recordings", host)

    return prepare


def _run(probe: Probe, folder: Path, host: str) -> None:
    http_protocol.IDLE_SECONDS = http_protocol.SEND_SECONDS = 0.5
    with serve(folder, host=host) as server:
        probe(server)
        assert is_well(server) if server.token is None else server.alive, "the server is not well"
        if server.token is not None:
            with Watcher(server) as page:
                page.until(lambda: page.head)


# Requests


def _send_requests(requests: Iterable[bytes], server: Server) -> None:
    for request in requests:
        answer = send_raw(server, request, SECONDS)
        assert answer == b"" or answer.startswith(b"HTTP/1."), answer[:100]
        status = answer.split(b" ", 2)[1] if answer else b""
        assert status != b"500", (request[:100], answer[:200])
        assert b"Traceback" not in answer, request[:100]
        assert b"secret" not in answer, request[:100]
        assert b"root:" not in answer, request[:100]
        if server.token is not None:
            assert status not in (b"101", b"200", b"206", b"303"), (request[:100], status)


def _get(target: str, *headers: str, host: str = "localhost", method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *headers, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


PATHS = (
    "/recordings/../secret.csv",
    "/recordings/..%2fsecret.csv",
    "/recordings/%2e%2e/secret.csv",
    "/recordings/..%5csecret.csv",
    "/recordings/..;/secret.csv",
    "/recordings/%252e%252e%252fsecret.csv",
    "/recordings/%c0%ae%c0%ae/secret.csv",
    "/recordings/link.csv",
    "/recordings//etc/passwd",
    "/recordings/%00",
    "/recordings/a%0d%0aSet-Cookie:x.csv",
    "/recordings/" + "a" * 8000,
    "/recordings/.",
    "/recordings/",
    "//etc/passwd",
    "/../../../../../../etc/passwd",
    "/page/../../server.py",
    "/%2e%2e/server.py",
    "/live",
    "/?token=",
    "/?token=x",
    "/?token=" + "x" * 8000,
    "/?token=%ff%00",
    "/?" + "a=b&" * 2000,
    "*",
    "http://evil.example/",
    "http://localhost/recordings/../secret.csv",
)

HOSTS = ("evil.example", "", "localhost.evil.example", "127.0.0.1.evil.example", "[::1", "a b")
HOSTS += ("localhost:99999", "LOCALHOST", "localhost@evil.example", "\x01", "é", "127.1", "0")

TRICKY_HEADERS = (
    ("Content-Length: -1",),
    ("Content-Length: 99999999999999999999",),
    ("Content-Length: 5", "Content-Length: 6"),
    ("Content-Length: 5", "Transfer-Encoding: chunked"),
    ("Transfer-Encoding: chunked, identity",),
    ("Transfer-Encoding: \x0bchunked",),
    ("Expect: 100-continue",),
    ("Connection: Upgrade", "Upgrade: h2c"),
    ("Upgrade: websocket",),
    ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
    ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 99"),
    ("Range: bytes=0-" + ",0-" * 2000,),
    ("Range: bytes=99999999999999999999-",),
    ("Range: bytes=-1",),
    ("If-Range: x", "Range: bytes=0-1"),
    ("If-None-Match: *",),
    ("If-Modified-Since: \xff",),
    ("Host: evil.example",),
    ("Cookie: " + ";" * 4000,),
    ("Cookie: relo-edge-0=" + "x" * 4000,),
    ("Authorization: Bearer " + "x" * 4000,),
    ("Authorization: Bearer \udcff",),
    ("Origin: null",),
    ("Origin: http://evil.example",),
    ("Origin: http://localhost", "Origin: http://evil.example"),
    ("X: " + "x" * 70_000,),
    tuple(f"X{number}: x" for number in range(3000)),
    (" folded: x",),
    ("no colon",),
    (": x",),
)

METHODS = (
    "POST",
    "PUT",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PRI",
    "get",
    "G\x00T",
    "",
)


def _list_random_requests() -> Iterator[bytes]:
    rng = random.Random(0)
    sound = _get("/", "Accept: */*")
    for _ in range(SHARE):
        yield rng.randbytes(rng.randrange(1, 2000))
        changed = bytearray(sound)
        for _ in range(rng.randrange(1, 6)):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        yield bytes(changed)


REQUESTS: dict[str, list[bytes]] = {
    "paths": [_get(path) for path in PATHS],
    "hosts": [_get("/live", host=host) for host in HOSTS],
    "headers": [_get(path, *headers) for headers in TRICKY_HEADERS for path in ("/", "/live")],
    "methods": [_get("/", "Content-Length: 5", method=method) + b"hello" for method in METHODS],
    "pipelined": [_get("/page.js") * 200, _get("/x") * 500, (_get("/") + b"\r\n") * 50],
    "endless": [b"GET / HTTP/1.1\r\nX: " + b"x" * (4 << 20), b"G" * (1 << 20), b"\r\n" * 100_000],
    "versions": [b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "chunks": [
        _get("/", "Transfer-Encoding: chunked") + body
        for body in (
            b"zz\r\n",
            b"ffffffffffffffff\r\n",
            b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"-1\r\n",
        )
    ],
    "noise": list(_list_random_requests()),
}


# WebSocket frames


def _send_frames(frames: Iterable[bytes], server: Server) -> None:
    for data in frames:
        answer = send_raw(server, upgrade(server) + data, SECONDS)
        assert answer.startswith(b"HTTP/1.1 101"), answer[:100]


def _frame(first: int, length: int, payload: bytes = b"", mask: bool = True) -> bytes:
    """A frame that announces a length, whatever follows."""
    flag = 0x80 if mask else 0
    if length < 126:
        head = bytes([first, flag | length])
    elif length < 1 << 16:
        head = bytes([first, flag | 126]) + length.to_bytes(2, "big")
    else:
        head = bytes([first, flag | 127]) + length.to_bytes(8, "big")
    return head + (bytes(4) if mask else b"") + payload


def _list_random_frames() -> Iterator[bytes]:
    rng = random.Random(1)
    for _ in range(SHARE):
        yield rng.randbytes(rng.randrange(1, 200))
        yield _frame(rng.randrange(256), rng.randrange(126), rng.randbytes(rng.randrange(126)))


FRAMES: dict[str, list[bytes]] = {
    "lengths": [
        _frame(0x82, length, b"x" * 100) for length in (126, 1 << 16, 1 << 40, (1 << 63) - 1)
    ],
    "unmasked": [_frame(0x81, 2, b"{}", mask=False)],
    "reserved bits": [_frame(0x81 | bit, 2, b"{}") for bit in (0x10, 0x20, 0x40, 0x70)],
    "opcodes": [_frame(0x80 | code, 2, b"{}") for code in range(16)],
    "not text": [_frame(0x81, 4, b"\xff\xfe\xc0\x80"), _frame(0x81, 3, b"\xed\xa0\x80")],
    "fragments": [
        _frame(0x01, 1, b"{") + _frame(0x00, 1, b" ") * 3000,
        _frame(0x00, 1, b"x"),
        _frame(0x01, 1, b"{") * 2,
        _frame(0x09, 1, b"x"),
        _frame(0x89, 125, b"x" * 125) * 2000,
    ],
    "closing": [
        _frame(0x88, 1, b"x"),
        _frame(0x88, 2, b"\x00\x00"),
        _frame(0x88, 2, b"\x03\xed"),
        _frame(0x88, 4, b"\x03\xe8\xff\xff"),
        _frame(0x88, 0) + mask_text("{}") * 50,
    ],
    "noise": list(_list_random_frames()),
}


# Messages


def _send_messages(messages: Iterable[str | bytes], server: Server) -> None:
    left = list(messages)
    while left:
        with contextlib.suppress(ConnectionClosed), Watcher(server, eager=False) as page:
            while left:
                page.post(left.pop())
                page.hear(SECONDS)


def _command(do: object, **fields: object) -> str:
    return json.dumps({"do": do, "id": 1, **fields})


def _list_random_messages() -> Iterator[str]:
    rng = random.Random(2)
    values = [None, True, -1, 1e308, "x", [], {}, [0, 0, 9, 9], "\u202e", 2**64, 0.5]
    words = ["do", "id", "picture", "box", "target", "x"]
    for _ in range(SHARE):
        plain = {rng.choice(words): rng.choice(values) for _ in range(rng.randrange(6))}
        plain["do"] = rng.choice(["add", "remove", "seen", "record", "pause", "clear"])
        yield json.dumps(plain)


BOXES = (
    [0, 0, 0, 0],
    [-1e308, 0, 1, 1],
    [1e308] * 4,
    [0, 0, 1e-300, 1e-300],
    [1, 2, 3],
    [1, 2, 3, 4, 5],
    ["1", 2, 3, 4],
    [[1], 2, 3, 4],
    [None] * 4,
    [True] * 4,
    {},
    "1,2,3,4",
)

MESSAGES: dict[str, list[str | bytes]] = {
    "not JSON": ["", "{", "[" * 2000, '{"a":' * 400, "nul", "\x00", b"\x00\xff", b"", "{}" * 9],
    "not a command": ["[]", "1", '"x"', "null", "{}", '{"do": 1}', '{"do": ["add"]}', '{"do": {}}'],
    "numbers": [
        '{"do": "remove", "id": 1, "target": NaN}',
        '{"do": "remove", "id": 1, "target": -Infinity}',
        '{"do": "remove", "id": 1, "target": 1e999}',
        '{"do": "remove", "id": 1, "target": ' + "9" * 1900 + "}",
        '{"do": "remove", "id": 1, "target": 1, "target": 2}',
        '{"do": "remove", "id": -1, "target": 1}',
        '{"do": "remove", "id": 99999999999, "target": 1}',
    ],
    "fields": [
        _command("add"),
        _command("add", picture=0, box=[1, 1, 9, 9], more=1),
        _command("__class__"),
        _command("remove", target="../../etc/passwd"),
        _command("record", name="../../x.mp4"),
        _command("\u202e\x1b[2J"),
        _command("seen", picture=0),
        '{"do": "seen", "picture": -1}',
    ],
    "boxes": [_command("add", picture=0, box=box) for box in BOXES],
    "order": [_command(do) for do in ("resume", "stop-recording", "record", "record", "clear")]
    + [_command(do) for do in ("pause", "pause", "restart", "stop-recording", "restart")],
    "long": ["x" * (MESSAGE_BYTES + 1), b"x" * (1 << 20), "é" * MESSAGE_BYTES],
    "noise": list(_list_random_messages()),
    "flood": [_command("stop-recording")] * 400,
}


# Connections


def _open(server: Server, count: int) -> list[socket.socket]:
    return [socket.create_connection(("127.0.0.1", server.port), SECONDS) for _ in range(count)]


def _hold(opening: bytes, server: Server) -> None:
    """As many as there are places, each with a byte more now and then, until all are cut."""
    lines = _open(server, MAX_CONNECTIONS)
    try:
        for line in lines:
            with contextlib.suppress(OSError):
                line.sendall(opening)
        deadline = threading.Event()
        for _ in range(100):
            deadline.wait(0.05)
            lines = [line for line in lines if not _is_cut(line)]
            if not lines:
                return
        raise AssertionError(f"{len(lines)} connections are held")
    finally:
        for line in lines:
            line.close()


def _is_cut(line: socket.socket) -> bool:
    line.settimeout(0.001)
    try:
        line.send(b"x")
        return line.recv(1 << 16) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def _come_and_go(server: Server) -> None:
    for _ in range(10):
        for line in _open(server, 100):
            line.close()


def _vanish(server: Server) -> None:
    """Viewers that are gone without a word."""
    for line in _open(server, 20):
        line.sendall(upgrade(server))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        line.close()


CONNECTIONS: dict[str, Probe] = {
    "say nothing": partial(_hold, b""),
    "begin a request": partial(_hold, b"GET / HTTP/1.1\r\nHost: loc"),
    "begin a body": partial(_hold, _get("/", "Content-Length: 9999")),
    "trickle after a page": partial(_hold, _get("/")),
    "trickle after a refusal": partial(_hold, _get("/", method="POST")),
    "trickle after another host's": partial(_hold, _get("/", host="evil.example")),
    "come and go": _come_and_go,
    "vanish": _vanish,
}
