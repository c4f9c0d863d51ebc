"""Plain data from a file: the first value that does not fit is named, shortly and harmlessly."""

import json

import pytest

from relo_edge.host.json_files import read_json
from relo_edge.validation.schema import (
    Mismatch,
    check_file_name,
    check_flag,
    check_sha256,
    is_choice,
    is_list,
    is_map,
    is_number,
    is_optional,
    is_record,
    is_text,
    is_whole,
)

PERSON = is_record(
    {"name": is_text(8, empty=False), "ages": is_list(is_whole(0, 99), longest=3)},
    {"files": is_map(check_file_name, is_optional(is_number(0, 1)))},
)


def test_what_fits_passes():
    value = {"name": "a", "ages": [1, 2], "files": {"a.b": None, "c": 0.5}, "else": object}
    assert PERSON(value) is None


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ([], ""),
        ({"name": "a"}, "ages"),
        ({"name": "", "ages": []}, "name"),
        ({"name": "a" * 9, "ages": []}, "name"),
        ({"name": "a", "ages": [1, True]}, "ages.1"),
        ({"name": "a", "ages": [1, 2.0]}, "ages.1"),
        ({"name": "a", "ages": [1, 100]}, "ages.1"),
        ({"name": "a", "ages": [1] * 4}, "ages"),
        ({"name": "a", "ages": [], "files": {"c": 2}}, "files.c"),
        ({"name": "a", "ages": [], "files": {"c": float("nan")}}, "files.c"),
        ({"name": "a", "ages": [], "files": {"../c": 1}}, "files"),
    ],
)
def test_the_place_of_the_first_that_does_not_is_named(value, place):
    with pytest.raises(Mismatch) as caught:
        PERSON(value)
    assert caught.value.place == place


@pytest.mark.parametrize(
    ("schema", "bad"),
    [
        (check_flag, 1),
        (check_sha256, "A" * 64),
        (is_choice("a", "b"), []),
        (is_number(), 10**400),
        (is_number(), "1"),
        (is_text(), None),
        (check_file_name, "a" * 129),
        (check_file_name, "a\n"),
    ],
)
def test_a_wrong_type_or_range_is_refused(schema, bad):
    with pytest.raises(Mismatch):
        schema(bad)


@pytest.mark.parametrize(
    "evil", ["\x1b[2J" * 1000, 10**5000, [0] * 100_000, {"a": 1}, None, "\ud800", "a\nb"], ids=type
)
def test_what_is_shown_of_a_stranger_is_short_and_harmless(evil):
    with pytest.raises(Mismatch) as caught:
        is_choice("a")(evil)
    assert len(str(caught.value)) < 120
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 5000,
        b"[" * 33 + b"]" * 33,
        b"9" * 5000,
        b"\xff\xfe",
        b"",
        b"nonsense",
        b"x" * 200,
    ],
    ids=lambda content: str(content[:8]),
)
def test_no_file_however_deep_or_large_ends_in_anything_else_than_an_error(tmp_path, content):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(ValueError):
        read_json(path, largest=150_000)


def test_a_file_that_is_too_large_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "file.json"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        read_json(path, largest=100)


def test_what_is_json_comes_out_as_it_is(tmp_path):
    plain = {"a": [1, 2.5, None, {"b": "c"}]}
    (tmp_path / "file.json").write_text(json.dumps(plain))
    assert read_json(tmp_path / "file.json") == plain
