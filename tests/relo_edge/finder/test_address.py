"""Where a model is served, read from one word."""

import logging

import pytest

from relo_edge.errors import InputError
from relo_edge.finder.address import KEY_VARIABLE, parse_address, read_key


@pytest.mark.parametrize(
    ("text", "origin", "base", "model"),
    [
        ("http://localhost:8000", "http://localhost:8000", "/v1", None),
        ("http://localhost:8000/v1/", "http://localhost:8000", "/v1", None),
        ("http://[::1]:11434/v1#qwen2.5vl:7b", "http://[::1]:11434", "/v1", "qwen2.5vl:7b"),
        ("https://a.b/v1/chat/completions", "https://a.b:443", "/v1", None),
        ("https://a.b/x/openai#Qwen/Q", "https://a.b:443", "/x/openai", "Qwen/Q"),
    ],
)
def test_addresses(text, origin, base, model):
    address = parse_address(text)
    assert (address.origin, address.base, address.model) == (origin, base, model)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "http://host:x",
        "http://host:99999",
        "http://ho st/v1",
        "http://host/v1?key=7",
        "http://host/\r\nX: 1",
        "http://hôte/",
        "http://[::1/",
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(InputError, match="finder's address: found"):
        parse_address(text)


def test_a_key_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(InputError, match=KEY_VARIABLE) as told:
        parse_address("http://me:secret@host/v1")
    assert "secret" not in str(told.value)


def test_the_key_comes_from_the_environment(monkeypatch, caplog):
    local, remote = parse_address("http://127.0.0.1:1"), parse_address("http://far:1")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    assert read_key(local) is None
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    with caplog.at_level(logging.WARNING, "relo_edge"):
        assert read_key(local) == "secret"
        assert not caplog.records
        assert read_key(remote) == "secret"
    assert "unencrypted to http://far:1" in caplog.text
    assert "secret" not in caplog.text
    monkeypatch.setenv(KEY_VARIABLE, "sec\nret")
    with pytest.raises(InputError, match="holds a character") as told:
        read_key(local)
    assert "ret" not in str(told.value).replace("character", "")
