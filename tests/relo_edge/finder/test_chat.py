"""The client against servers that fail, lie, stall and flood: one line each time, and in time."""

import json
import socket
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from models import (
    MODEL,
    drip,
    fail,
    read_pictures,
    read_words,
    send_body,
    send_json,
    serve_model,
)

from relo_edge.errors import FinderError
from relo_edge.finder import chat, http_request
from relo_edge.finder.address import KEY_VARIABLE, parse_address
from relo_edge.finder.chat import ChatClient

PICTURE = np.full((56, 84, 3), 90, np.uint8)
SAMPLING = {"temperature": 0}
SECRET = "sk-very-secret"


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(chat, "PAUSES", (0.01, 0.01, 0.01))


def ask(server, timeout=10.0, url=None):
    client = ChatClient(parse_address(url or server.url), timeout)
    return client.ask([PICTURE], "where?", SAMPLING)


def test_what_is_sent():
    with serve_model("there") as server:
        assert ask(server) == "there"
    assert server.paths == ["/v1/models", "/v1/chat/completions"]
    (request,) = server.requests
    assert {k: v for k, v in request.items() if k != "messages"} == {
        "model": MODEL,
        "stream": False,
        "temperature": 0,
    }
    (picture,) = read_pictures(request)
    assert np.abs(picture.astype(int) - 90).max() <= 2
    assert read_words(request) == "where?"
    assert server.keys == [None, None]


def test_a_model_that_is_named_is_not_asked_for():
    with serve_model("there") as server:
        ask(server, url=f"{server.url}#other")
    assert server.paths == ["/v1/chat/completions"]
    assert server.requests[0]["model"] == "other"


@pytest.mark.parametrize(("models", "found"), [([], "none"), (["a", "b"], "'a, b'")])
def test_a_server_of_several_models(models, found):
    with (
        serve_model("there", models=models) as server,
        pytest.raises(FinderError, match=f"found {found}, expected a single one; name it"),
    ):
        ask(server)
    assert server.requests == []


def test_the_key_is_sent_and_never_shown(monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    with (
        serve_model(fail(400, f"bad request by {SECRET}")) as server,
        pytest.raises(FinderError, match=r"bad request by \*\*\*") as told,
    ):
        ask(server)
    assert set(server.keys) == {f"Bearer {SECRET}"}
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "said", [SECRET, f'{{"choices": "{SECRET}"}}', f'{{"a": "{"x" * 66}{SECRET}"}}']
)
def test_a_key_that_is_repeated_is_not_shown(monkeypatch, said):
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    with (
        serve_model(lambda h: send_body(h, 200, said.encode())) as server,
        pytest.raises(FinderError) as told,
    ):
        ask(server)
    assert SECRET[:8] not in str(told.value)
    with serve_model(f"I was told {SECRET}") as server:
        assert ask(server) == "I was told ***"


def test_an_answer_in_parts():
    message = {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    with serve_model(lambda handler: send_json(handler, {"choices": [{"message": message}]})) as s:
        assert ask(s) == "ab"


def test_an_answer_without_text():
    with serve_model(
        lambda handler: send_json(handler, {"choices": [{"message": {"content": None}}]})
    ) as s:
        assert ask(s) == ""


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_passes_is_asked_again(status):
    with serve_model(fail(status), fail(status), "there") as server:
        assert ask(server) == "there"
    assert len(server.requests) == 3


def test_a_server_that_says_when_to_come_back_is_believed_as_far_as_there_is_time():
    with (
        serve_model(fail(503, headers=[("Retry-After", "600")])) as server,
        pytest.raises(FinderError, match="found status 503"),
    ):
        ask(server)
    assert len(server.requests) == 1


def test_a_field_that_the_server_does_not_know_is_left_out():
    with serve_model(fail(422, "Unexpected fields: {'top_k'}"), "there", fail(422)) as server:
        client = ChatClient(parse_address(f"{server.url}#m"), 10.0)
        assert client.ask([PICTURE], "where?", {"top_k": 20}) == "there"
        with pytest.raises(FinderError, match="found status 422"):
            client.ask([PICTURE], "where?", {"top_k": 20})
    assert ["top_k" in request for request in server.requests] == [True, False, False]


def redirect(to, status=307):
    return lambda handler: send_body(handler, status, b"", headers=[("Location", to)])


def flood(handler):
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n")
    for _ in range(100):
        handler.wfile.write(b" " * (1 << 20))


def cut(handler):
    handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"choices": [')


HOSTILE = {
    "500 for ever": (fail(500), "refuses the request: found status 500 'out of order'"),
    "401": (fail(401), f"refuses the key: found status 401; put .* {KEY_VARIABLE}"),
    "404": (fail(404, "no such model"), "status 404 'no such model'; check the address's path"),
    "422": (
        lambda h: send_json(h, {"detail": [{"loc": ["top_k"]}]}, 422),
        "found status 422",
    ),
    "HTML": (
        lambda h: send_body(h, 200, b"<html><body>Hi</body></html>", "text/html"),
        "is not JSON: found '<html>",
    ),
    "HTML error": (lambda h: send_body(h, 502, b"<h1>Bad\ngateway</h1>"), "502 '<h1>Bad gateway"),
    "deep JSON": (lambda h: send_body(h, 200, b"[" * 200_000), "is not JSON"),
    "binary": (lambda h: send_body(h, 200, bytes(range(256))), "is not JSON"),
    "other JSON": (lambda h: send_json(h, {"ok": True}), "is no chat completion"),
    "list": (lambda h: send_json(h, [1]), "is no chat completion"),
    "no choice": (lambda h: send_json(h, {"choices": []}), "is no chat completion"),
    "cut off": (cut, "is not JSON"),
    "100 MB": (flood, "answers at too great a length: found more than 1 MiB"),
    "no HTTP": (lambda h: h.wfile.write(b"SSH-2.0-OpenSSH_9.6\r\n"), "speaks no HTTP"),
    "hangs up": (lambda h: None, "cannot be reached: found a connection closed without an answer"),
    "elsewhere": (redirect("http://192.0.2.1/v1"), "redirects, and pictures go to no address"),
    "other port": (redirect("http://127.0.0.1:9/v1"), "redirects, and pictures go to no"),
    "upgraded": (redirect("https://127.0.0.1/v1"), "redirects, and pictures go to no"),
    "as GET": (redirect("/v1/chat/completions", 302), "redirects, and pictures go to no"),
    "nowhere": (redirect(""), "redirects, and pictures go to no address"),
    "in circles": (redirect("/v1/chat/completions"), "redirects without end"),
    "malformed": (redirect("http://[::1"), "redirects, and pictures go to no address"),
}


@pytest.mark.parametrize(("said", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_answers(said, message):
    begin = time.monotonic()
    with serve_model(said) as server, pytest.raises(FinderError, match=message) as told:
        ask(server)
    assert len(str(told.value)) < 400
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "said",
    [
        drip(),
        drip(b"HTTP/1.1 200 OK\r\nX-A: "),
        drip(b"HTTP/1.1 200 OK\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"),
        lambda handler: time.sleep(5),
    ],
    ids=["start", "headers", "body without length", "body", "silence"],
)
def test_a_slow_drip_ends_in_time(said):
    with serve_model(said) as server:
        begin = time.monotonic()
        with pytest.raises(FinderError, match=r"does not answer in time: .* 0\.3 seconds"):
            ask(server, timeout=0.3)
        assert time.monotonic() - begin < 3
        for thread in threading.enumerate():
            if thread.name == "relo-edge-finder":
                thread.join(3)
                assert not thread.is_alive(), "the line was left open"


def test_a_redirect_on_the_same_server_is_followed():
    with serve_model(redirect("/v2/chat"), "there") as server:
        assert ask(server, url=f"{server.url}#m") == "there"
    assert server.paths == ["/v1/chat/completions", "/v2/chat"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_at_its_usual_port_may_name_itself(scheme):
    reply = SimpleNamespace(headers={"location": f"{scheme}://host/v2/chat"}, status=307)
    assert http_request._follow(parse_address(f"{scheme}://host/v1#m"), "/v1", reply) == "/v2/chat"


def test_nobody_is_there():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(FinderError, match="cannot be reached: found connection refused; start"):
            ask(None, url=url)


def test_a_name_that_nobody_has():
    with pytest.raises(FinderError, match=r"http://nobody\.invalid:80 cannot be reached"):
        ask(None, url="http://nobody.invalid#m")


def test_plain_http_asked_for_tls():
    with (
        serve_model("there") as server,
        pytest.raises(FinderError, match=r"https://.* cannot be reached"),
    ):
        ask(None, url=f"https://127.0.0.1:{server.port}#m")


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with serve_model("there") as server:
        assert ask(server) == "there"


def test_quotes_are_short_and_on_one_line():
    said = chat.quote("a\nb\x1b[31m" + "c" * 500)
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 100
    assert json.dumps(said)
