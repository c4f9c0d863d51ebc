"""Access control: host, origin, method and token are checked before anything is served."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from relo_edge.serve.health import HEALTH_PATHS

__all__ = ["HEADERS", "AccessControl"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = (b"127.0.0.1", b"localhost", b"[::1]")

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""On every response: the page loads nothing from elsewhere and is embedded nowhere."""

YEAR = 365 * 24 * 3600


@dataclass(frozen=True)
class _Refusal:
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class AccessControl:
    """ASGI middleware; `token` is None on loopback, where the Host header is checked instead."""

    app: App
    token: str | None
    cookie: str

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass allowed requests on; refuse the rest in one line."""
        refusal = self._check(scope)
        if refusal is None:
            await self.app(scope, receive, _add_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _refuse(send, refusal)

    def _check(self, scope: Scope) -> _Refusal | None:
        host, origin = _read_header(scope, b"host"), _read_header(scope, b"origin")
        if host is None or (self.token is None and _strip_port(host) not in LOOPBACK_NAMES):
            return _Refusal(421, "this server answers to localhost and 127.0.0.1 only")
        # A browser names the page that asks; another site's page must not control the tracker.
        websocket, own = scope["type"] == "websocket", (b"http://" + host, b"https://" + host)
        if (websocket or origin is not None) and origin not in own:
            return _Refusal(403, "the request comes from a page of another origin")
        if not websocket and scope["method"] not in ("GET", "HEAD"):
            return _Refusal(405, "GET and HEAD only", (("allow", "GET, HEAD"),))
        # Probes have no token, and learn nothing but whether all is well.
        if self.token is None or (not websocket and scope["path"] in HEALTH_PATHS):
            return None
        return self._check_token(scope, self.token)

    def _check_token(self, scope: Scope, token: str) -> _Refusal | None:
        given = _read_cookie(scope, self.cookie) or _read_bearer(scope)
        if given is not None and _is_same(given, token):
            return None
        query = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["type"] == "http" and scope["path"] == "/" and _is_same(query, token):
            # From the address bar into a cookie that no script reads; the address is clean again.
            flags = f"Path=/; Max-Age={YEAR}; HttpOnly; SameSite=Lax"
            cookie = ("set-cookie", f"{self.cookie}={token}; {flags}")
            return _Refusal(303, "", (("location", "/"), cookie))
        return _Refusal(401, "open the address with the token that relo-edge printed")


def _read_header(scope: Scope, name: bytes) -> bytes | None:
    """The header's value; None unless it occurs exactly once."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0].lower() if len(values) == 1 else None


def _strip_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() else host


def _read_cookie(scope: Scope, name: str) -> str | None:
    for key, value in scope["headers"]:
        for part in value.split(b";") if key == b"cookie" else ():
            word, _, content = part.strip().partition(b"=")
            if word == name.encode():
                return str(content.decode("latin-1"))
    return None


def _read_bearer(scope: Scope) -> str | None:
    for key, value in scope["headers"]:
        if key == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].strip().decode("latin-1"))
    return None


def _is_same(given: str, token: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), token.encode())


def _add_headers(send: Send) -> Send:
    async def pass_on(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *_encode_headers(HEADERS.items())]
        await send(message)

    return pass_on


async def _refuse(send: Send, refusal: _Refusal) -> None:
    body = f"relo-edge: {refusal.reason}\n".encode() if refusal.reason else b""
    named = (("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))))
    # A stranger must connect anew for each try, and so holds no place.
    closing = (("connection", "close"),)
    headers = _encode_headers([*HEADERS.items(), *named, *closing, *refusal.headers])
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _encode_headers(headers: Any) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1")) for name, value in headers]
