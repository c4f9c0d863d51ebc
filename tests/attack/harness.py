"""One attack at a time, each in a fork of its own, and what it must not do.

An attack prepares its files in an empty folder and says what to do with them. It is held when that
ends within its limits, in at most one error line, without running anything and leaving anything.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from relo_edge import cli
from relo_edge.errors import ReloError
from relo_edge.host.terminal import print_error

Act = Callable[[], object]

CPU_SECONDS = 10.0
CLOCK_SECONDS = 40.0
"""Seconds by the clock, on a machine that is busy with other things, too."""
MEGABYTES = 2000
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CODES = (0, 1, 2)


@dataclass(frozen=True)
class Attack:
    """What is tried.

    `prepare` is given an empty folder and the path of a canary, which code of the attack's would
    make; it returns what a user then does, a call or a verb's words. `must_fail` where success
    would be a wrong answer.
    """

    name: str
    prepare: Callable[[Path, Path], Act]
    must_fail: bool = False
    leaves: tuple[str, ...] = ()
    """Names that a success may leave in the folder."""


@dataclass(frozen=True)
class Outcome:
    """How it went; no fault means that it was held."""

    kind: str
    name: str
    faults: tuple[str, ...]
    seconds: float
    megabytes: int
    output: str


def run_words(*words: object) -> Act:
    """A verb, as a user calls it."""

    def act() -> None:
        sys.argv = ["relo-edge", *map(str, words)]
        cli.main()

    return act


def try_attack(kind: str, attack: Attack) -> Outcome:
    """Prepare, act in a fork, and look at what is left."""
    root = Path(tempfile.mkdtemp(prefix="attack-"))
    folder, canary, log = root / "place", root / "canary", root / "log"
    folder.mkdir()
    try:
        act = attack.prepare(folder, canary)
        before = _list_files(root)
        code, seconds, peak = _run_fork(act, folder, log)
        left = _list_files(root) - before - {"log"} - {f"place/{name}" for name in attack.leaves}
        output = log.read_text(errors="replace")
        faults = tuple(_find_faults(attack, code, canary, left, output, seconds, peak))
        return Outcome(kind, attack.name, faults, seconds, peak, output[-2000:])
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _find_faults(
    attack: Attack,
    code: int | None,
    canary: Path,
    left: set[str],
    output: str,
    seconds: float,
    peak: int,
) -> Iterator[str]:
    if canary.exists():
        yield "code was run"
    if left - {"canary"}:
        yield f"stray files: {', '.join(sorted(left)[:3])}"
    if code is None:
        yield "it hung"
    elif seconds > CPU_SECONDS:
        yield f"it took {seconds:.0f} s of the CPU"
    elif code < 0:
        yield f"it died of {signal.Signals(-code).name}"
    elif code not in CODES:
        yield f"exit code {code}"
    if peak > MEGABYTES:
        yield f"it took {peak} MB"
    if "Traceback" in output:
        yield "a traceback"
    if CONTROLS.search(output):
        yield "control characters for the terminal"
    errors = [line for line in output.splitlines() if line.startswith("relo-edge: ")]
    if code in (1, 2) and len(errors) > 1:
        yield f"{len(errors)} error lines"
    if attack.must_fail and code == 0:
        yield "it was taken for good"


def _run_fork(act: Act, folder: Path, log: Path) -> tuple[int | None, float, int]:
    """Exit code, or None where it had to be killed; CPU seconds; and megabytes at the peak."""
    child = os.fork()
    if not child:
        _become_child(act, folder, log)
    end = time.monotonic() + CLOCK_SECONDS
    while True:
        late = time.monotonic() > end
        if late:
            os.kill(child, signal.SIGKILL)
        done, status, usage = os.wait4(child, 0 if late else os.WNOHANG)
        if done:
            code = None if late else os.waitstatus_to_exitcode(status)
            return code, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024
        time.sleep(0.002)


def _become_child(act: Act, folder: Path, log: Path) -> None:
    code = 1
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_AS, (24 << 30, 24 << 30))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        act()
        code = 0
    except ReloError as error:
        print_error(str(error))
        code = error.exit_code
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def _list_files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}
