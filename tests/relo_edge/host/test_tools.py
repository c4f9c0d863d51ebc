"""System tools: what they print, and what is said when they are missing."""

from relo_edge.host.tools import ask_tool, read_power_mode


def test_the_power_mode_is_what_nvpmodel_says(tmp_path, monkeypatch):
    script = tmp_path / "nvpmodel"
    script.write_text("#!/bin/sh\necho 'NV Power Mode: MAXN_SUPER'\necho 2\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert read_power_mode() == "MAXN_SUPER"


def test_a_tool_that_is_missing_or_fails_says_nothing():
    assert ask_tool("no-such-tool") == ""
    assert ask_tool("sh", "-c", "echo half; exit 3") == ""
    assert ask_tool("echo", "whole") == "whole\n"
