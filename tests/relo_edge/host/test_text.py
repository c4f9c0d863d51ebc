"""Text from outside: readable letters stay, whatever commands a terminal is written out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.host.text import escape_controls


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clip 1.mp4", "clip 1.mp4"),
        ("Straße 猫", "Straße 猫"),
        ("a\x1b[2Jb\n", "a\\x1b[2Jb\\n"),
        ("\x9b31m\x7f", "\\x9b31m\\x7f"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_controls_are_written_out(text, shown):
    assert escape_controls(text) == shown


@given(st.text())
def test_what_is_shown_commands_nothing(text):
    shown = escape_controls(text)
    assert all(letter == " " or letter.isprintable() or letter.isspace() for letter in shown)
    assert escape_controls(shown) == shown
    shown.encode()
