"""One HTTP request and its answer, within a time and a size, and to nobody but who was named."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as OutOfTime
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from relo_edge.errors import FinderError
from relo_edge.finder.address import PORTS, Address

__all__ = ["Deadline", "Lost", "Reply", "send_request"]

LARGEST = 1 << 20
"""Bytes of an answer; a box and the thoughts about it take a few thousand."""

REDIRECTS = 3
SAME_METHOD = (307, 308)

_Result = TypeVar("_Result")


class Lost(Exception):
    """The line broke or was refused, which may pass."""


@dataclass(frozen=True)
class Reply:
    """What a server said, whatever it meant."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Deadline:
    """Seconds for everything that one question takes, retries included."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds; 0 or less once they are over."""
        return self._end - time.monotonic()


def send_request(
    address: Address,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    deadline: Deadline,
) -> Reply:
    """POST the body, or GET without one; redirects are followed on the same server alone."""
    for _ in range(REDIRECTS + 1):
        reply = _send_within(address, path, headers, body, deadline)
        if not 300 <= reply.status < 400:
            return reply
        path = _follow(address, path, reply)
    raise FinderError(f"{address.origin} redirects without end", fix="check the finder's address")


def _follow(address: Address, path: str, reply: Reply) -> str:
    """The path that a redirect names, if it keeps to the server and repeats the request."""
    place = reply.headers.get("location", "")
    try:
        target = urllib.parse.urlsplit(
            urllib.parse.urljoin(f"{address.origin}{path}", place, allow_fragments=False)
        )
        origin = (target.scheme, target.hostname, target.port or PORTS.get(target.scheme))
    except ValueError:
        origin = ("", None, None)
    here = (address.scheme, address.host, address.port)
    if origin != here or reply.status not in SAME_METHOD or not _is_plain(place):
        raise FinderError(
            f"{address.origin} redirects, and pictures go to no address but the one given",
            found=ascii(place[:80]),
            fix="give that address if you trust it",
        )
    return target.path + (f"?{target.query}" if target.query else "")


def _is_plain(place: str) -> bool:
    """Whether a redirect's address can stand in a request."""
    return bool(place) and all("!" <= letter <= "~" for letter in place)


def _send_within(
    address: Address,
    path: str,
    headers: Mapping[str, str],
    body: bytes | None,
    deadline: Deadline,
) -> Reply:
    connection = _connect(address, max(deadline.left, 0.001))
    lines: list[socket.socket] = []

    def talk() -> Reply:
        connection.request("GET" if body is None else "POST", path, body, dict(headers))
        lines.append(connection.sock)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return Reply(answer.status, named, _read_body(address, answer))

    try:
        return _run_within(max(deadline.left, 0.001), talk)
    except (OutOfTime, TimeoutError):
        raise FinderError(
            f"{address.origin} does not answer in time",
            found=f"nothing whole in {deadline.seconds:g} seconds",
            fix="give a longer --finder-timeout",
        ) from None
    except http.client.RemoteDisconnected:
        raise Lost("a connection closed without an answer") from None
    except (ssl.SSLError, socket.gaierror) as error:
        found = error.strerror or error
        raise FinderError(f"{address.origin} cannot be reached", found=found) from None
    except OSError as error:
        raise Lost((error.strerror or type(error).__name__).lower()) from None
    except http.client.HTTPException as error:
        raise FinderError(
            f"{address.origin} speaks no HTTP", found=type(error).__name__, expected="a web server"
        ) from None
    finally:
        _hang_up(connection, lines)


def _connect(address: Address, seconds: float) -> http.client.HTTPConnection:
    if address.scheme == "https":
        return http.client.HTTPSConnection(address.host, address.port, timeout=seconds)
    return http.client.HTTPConnection(address.host, address.port, timeout=seconds)


def _read_body(address: Address, answer: http.client.HTTPResponse) -> bytes:
    body = bytearray()
    while len(body) <= LARGEST:
        part = answer.read1(LARGEST)
        if not part:
            return bytes(body)
        body += part
    raise FinderError(
        f"{address.origin} answers at too great a length",
        found=f"more than {LARGEST >> 20} MiB",
        expected="a few sentences",
    )


def _run_within(seconds: float, call: Callable[[], _Result]) -> _Result:
    """Call it on a thread of its own: no look-up, handshake or slow drip keeps the caller longer.

    A socket's own timeout begins anew with every byte.
    """
    done: Future[_Result] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="relo-edge-finder", daemon=True).start()
    return done.result(seconds)


def _hang_up(connection: http.client.HTTPConnection, lines: list[socket.socket]) -> None:
    """Close the line also under a thread that still reads from it."""
    for line in lines:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
    connection.close()
