"""Messages of a page: the right ones are read to the last number, the rest get one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.errors import InputError
from relo_edge.serve.commands import COMMANDS, parse_command
from relo_edge.serve.limits import RateLimiter

GOOD = {
    '{"do": "seen", "picture": 4}': ("seen", None, 4, None, None),
    '{"do": "add", "id": 1, "picture": 4, "box": [1, 2.5, 30, 40]}': (
        "add",
        1,
        4,
        (1.0, 2.5, 30.0, 40.0),
        None,
    ),
    '{"do": "remove", "id": 2, "target": 0}': ("remove", 2, None, None, 0),
    '{"do": "pause", "id": 3}': ("pause", 3, None, None, None),
}


def test_words_are_read_as_they_are():
    command = parse_command('{"do": "find", "id": 4, "picture": 2, "words": "the r\u00f8d car"}')
    assert (command.do, command.picture, command.words) == ("find", 2, "the rød car")


@pytest.mark.parametrize(("text", "expected"), GOOD.items())
def test_a_command_is_read_whole(text, expected):
    command = parse_command(text)
    found = (command.do, command.id, command.picture, command.box, command.target)
    assert found == expected


BAD = {
    "no JSON": "pause",
    "empty": "",
    "a list": '["pause"]',
    "unknown": '{"do": "reboot", "id": 1}',
    "no do": '{"id": 1}',
    "do is a list": '{"do": ["pause"], "id": 1}',
    "no id": '{"do": "pause"}',
    "too much": '{"do": "pause", "id": 1, "path": "/etc/passwd"}',
    "id is true": '{"do": "pause", "id": true}',
    "id is negative": '{"do": "pause", "id": -1}',
    "id is huge": f'{{"do": "pause", "id": {10**400}}}',
    "target is text": '{"do": "remove", "id": 1, "target": "0"}',
    "three numbers": '{"do": "add", "id": 1, "picture": 1, "box": [1, 2, 3]}',
    "NaN": '{"do": "add", "id": 1, "picture": 1, "box": [NaN, 2, 3, 4]}',
    "infinite": '{"do": "add", "id": 1, "picture": 1, "box": [1e999, 2, 3, 4]}',
    "huge": f'{{"do": "add", "id": 1, "picture": 1, "box": [{10**400}, 2, 3, 4]}}',
    "true in a box": '{"do": "add", "id": 1, "picture": 1, "box": [true, 2, 3, 4]}',
    "words are a number": '{"do": "find", "id": 1, "picture": 1, "words": 7}',
    "deep": "[" * 2000,
    "many digits": "1" * 5000,
    "bytes": None,
    "a lone surrogate": '{"do": "\\ud800", "id": 1}',
}


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_what_is_wrong_is_one_short_printable_line(text):
    with pytest.raises(InputError) as caught:
        parse_command(text)
    line = str(caught.value)
    assert "expected" in line
    assert line.isascii() or "…" in line
    assert "\n" not in line
    assert len(line) < 400


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*COMMANDS]),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(["do", "id", "picture", "box", "target"]) | st.text()


@pytest.mark.slow
@given(st.dictionaries(KEYS, VALUES).map(json.dumps) | st.text())
def test_any_message_is_a_command_or_a_clear_refusal(text):
    try:
        command = parse_command(text)
    except InputError:
        return
    assert command.do in COMMANDS
    # What was accepted says just what was asked.
    asked = json.loads(text)
    fields = {"do", *COMMANDS[command.do]} | ({"id"} if command.do != "seen" else set())
    assert set(asked) == fields
    assert all(
        list(getattr(command, n)) == asked[n] if n == "box" else getattr(command, n) == asked[n]
        for n in fields
    )


def test_a_burst_is_allowed_and_a_flood_is_not():
    limiter = RateLimiter(rate=10, burst=5, max_refusals=3)
    assert [limiter.allow(0.0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert limiter.allow(0.1)
    assert not limiter.allow(0.1)
    assert not limiter.exhausted
    assert not any(limiter.allow(0.1) for _ in range(3))
    assert limiter.exhausted
