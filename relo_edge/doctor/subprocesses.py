"""Child processes, all at once: a package that crashes or hangs takes only its own child down."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "ask_child", "ask_children", "read_nvidia_smi"]

TIMEOUT = 30.0  # seconds; PyTorch takes many of them off a cold memory card

# The child looks for packages where this process would; `-c` alone adds the current folder.
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); "
    "from relo_edge.doctor.probe import answer_parent; answer_parent(sys.argv[1])"
)


@dataclass(frozen=True)
class Answer:
    """What a child found, or why it found nothing; `absent` when the package is not installed.

    `chatter` is what the package itself printed, where the cause of a failure often stands.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    failure: str = ""
    absent: bool = False
    chatter: str = ""


def ask_children(names: Iterable[str]) -> dict[str, Answer]:
    """Every probe's answer; together they take about as long as the slowest."""
    asked = list(names)
    with ThreadPoolExecutor(len(asked)) as pool:
        return dict(zip(asked, pool.map(ask_child, asked), strict=True))


def ask_child(name: str, timeout: float = TIMEOUT) -> Answer:
    """One probe's answer; a crash or a hang is an answer too."""
    command = [sys.executable, "-c", _BOOT, name, json.dumps(sys.path)]
    try:
        child = subprocess.run(
            command, capture_output=True, timeout=timeout, text=True, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return Answer(failure=f"importing it did not end within {timeout:g} s")
    if child.returncode or not child.stdout:
        return Answer(failure=describe_death(child.returncode))
    *noise, answer = child.stdout.splitlines()
    return Answer(**json.loads(answer), chatter="\n".join([*noise, child.stderr]))


def describe_death(code: int) -> str:
    """How a child ended that gave no answer."""
    if code < 0:
        return f"importing it crashes ({signal.Signals(-code).name})"
    return f"importing it ends Python (exit code {code})"


def read_nvidia_smi() -> str:
    """One line for each GPU, `name, driver`; nothing when the tool is not there or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, timeout=10, text=True, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
