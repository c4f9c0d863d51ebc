"""No file's name or content speaks to the terminal."""

import logging

import pytest
from verbs import run_verb

from relo_edge.host.terminal import ChatterHandler, escape_controls

EVIL = "\x1b]0;owned\x07\x9b2J\u202egpj.exe"


@pytest.mark.parametrize("character", "\x00\x07\x08\r\x1b\x7f\x9b\u202e\u2066\ud800")
def test_what_a_terminal_would_obey_is_spelled_out(character):
    shown = escape_controls(f"a{character}b")
    assert character not in shown
    assert shown.startswith("a\\")
    shown.encode()  # and it can be written at all


def test_text_stays_as_it_is():
    text = "Größe 3×4, 日本\n\tx"
    assert escape_controls(text) == text


def test_an_error_about_an_evil_name_is_harmless(capsys, tmp_path):
    code, _, err = run_verb(capsys, "inspect", tmp_path / EVIL)
    assert code == 2
    assert "\\x1b]0;owned\\x07" in err
    assert not set(EVIL) & set(err) & set("\x1b\x07\x9b\u202e")


def test_a_log_line_is_harmless(capsys):
    record = logging.LogRecord("relo_edge", logging.INFO, "", 0, "left out %s", (EVIL,), None)
    ChatterHandler().emit(record)
    assert "\x1b" not in capsys.readouterr().err
