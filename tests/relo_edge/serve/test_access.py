"""The gate: without the right host, origin, method and token nothing behind it is reached."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.serve.access import HEADERS, AccessControl

TOKEN = "right-token"
COOKIE = "relo-edge-8000"


def ask(token=None, path="/", query=b"", method="GET", kind="http", **headers):
    """(status or 'in', headers) of a request at the gate."""
    reached, sent = [], []

    async def inner(scope, receive, send):
        reached.append(scope["path"])
        if kind == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"secret"})

    async def send(message):
        sent.append(message)

    named = [(k.encode(), v) for k, value in headers.items() for v in as_list(value)]
    scope = {"type": kind, "path": path, "query_string": query, "headers": named}
    scope |= {"method": method} if kind == "http" else {}
    asyncio.run(AccessControl(inner, token, COOKIE)(scope, None, send))
    if kind == "websocket":
        return ("in" if reached else "closed"), {}
    body = b"".join(message.get("body", b"") for message in sent)
    assert (b"secret" in body) == bool(reached)
    given_headers = {k.decode(): v.decode("latin-1") for k, v in sent[0]["headers"]}
    assert HEADERS.items() <= given_headers.items()
    return ("in" if reached else sent[0]["status"]), given_headers


def as_list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("host", [b"127.0.0.1:8000", b"localhost", b"LOCALHOST:9", b"[::1]:8000"])
def test_loopback_is_reached_by_its_names(host):
    assert ask(host=host)[0] == "in"


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example:8000",
        b"127.0.0.1.evil.example",
        b"localhost.evil.example:8000",
        b"",
        b"127.0.0.1@evil.example",
        [b"127.0.0.1", b"evil.example"],
        [],
    ],
)
def test_a_rebound_name_is_refused_on_loopback(host):
    assert ask(host=host)[0] == 421
    assert ask(host=host, kind="websocket", origin=b"http://127.0.0.1")[0] == "closed"


def test_a_socket_needs_the_pages_own_origin():
    def reached(**headers):
        return ask(kind="websocket", path="/live", host=b"localhost:8000", **headers)[0]

    assert reached(origin=b"http://localhost:8000") == "in"
    for origin in (b"http://localhost:9000", b"http://evil.example", b"null", b"localhost:8000"):
        assert reached(origin=origin) == "closed"
    assert reached() == "closed"


def test_other_sites_and_other_methods_are_refused():
    host = b"localhost:8000"
    assert ask(host=host, origin=b"http://evil.example")[0] == 403
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PROPFIND"):
        assert ask(host=host, method=method)[0] == 405
    assert ask(host=host, method="HEAD")[0] == "in"


def test_the_token_goes_from_the_address_into_a_cookie_and_in():
    host = b"192.168.1.7:8000"
    status, headers = ask(TOKEN, query=b"token=right-token", host=host)
    assert (status, headers["location"]) == (303, "/")
    assert headers["set-cookie"].startswith(f"{COOKIE}={TOKEN}; ")
    assert "HttpOnly" in headers["set-cookie"]
    cookie = headers["set-cookie"].split(";")[0].encode()
    assert ask(TOKEN, host=host, cookie=b"a=b; " + cookie)[0] == "in"
    assert ask(TOKEN, host=host, authorization=b"Bearer right-token")[0] == "in"
    origin = {"origin": b"http://" + host}
    assert ask(TOKEN, kind="websocket", host=host, cookie=cookie, **origin)[0] == "in"


WITHOUT = {
    "nothing": {},
    "wrong in the address": {"query": b"token=wrong"},
    "a part of it": {"query": b"token=right"},
    "wrong cookie": {"cookie": b"relo-edge-8000=wrong"},
    "another's cookie": {"cookie": b"relo-edge-9000=right-token"},
    "empty cookie": {"cookie": b"relo-edge-8000="},
    "wrong bearer": {"authorization": b"Bearer wrong"},
    "basic": {"authorization": b"Basic right-token"},
    "bytes": {"cookie": b"relo-edge-8000=\xff\xfe"},
    "in another path's address": {"path": "/page.js", "query": b"token=right-token"},
}


@pytest.mark.parametrize("request_", WITHOUT.values(), ids=WITHOUT)
def test_without_the_token_nothing_is_served(request_):
    host = b"192.168.1.7:8000"
    assert ask(TOKEN, host=host, **request_)[0] == 401
    socket = ask(TOKEN, kind="websocket", host=host, origin=b"http://" + host, **request_)
    assert socket[0] == "closed"


def test_the_token_in_the_address_opens_no_socket():
    host = b"192.168.1.7:8000"
    words = {"query": b"token=right-token", "host": host, "origin": b"http://" + host}
    assert ask(TOKEN, kind="websocket", **words)[0] == "closed"


@given(
    query=st.binary(max_size=40),
    cookie=st.binary(max_size=40),
    authorization=st.binary(max_size=40),
    path=st.text(max_size=20),
)
def test_no_guess_gets_in(query, cookie, authorization, path):
    host = b"10.0.0.1"
    words = {"query": query, "cookie": cookie, "authorization": authorization, "path": path}
    assert ask(TOKEN, host=host, **words)[0] == 401
