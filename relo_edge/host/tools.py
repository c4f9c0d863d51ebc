"""System tools asked in a process of their own."""

from __future__ import annotations

import re
import subprocess

__all__ = ["ask_tool", "read_power_mode"]

TIMEOUT = 20.0


def ask_tool(*command: str) -> str:
    """What a system tool prints; nothing where it is missing, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return "" if done.returncode else done.stdout


def read_power_mode() -> str:
    """A Jetson's power mode, as `nvpmodel` names it; nothing where there is none."""
    found = re.search(r"NV Power Mode:\s*(\S+)", ask_tool("nvpmodel", "-q"))
    return found[1] if found else ""
