"""A share of the attacks, the same each time; `make attack` tries all of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")
KINDS = ("checkpoints", "bundles", "sidecars", "graphs", "inputs", "sources", "web")
COUNT = 12

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results():
    done = subprocess.run(
        [sys.executable, RUN, *KINDS, "--count", str(COUNT), "--json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_attack_is_held(results, kind):
    failed = [outcome for outcome in results["failed"] if outcome["kind"] == kind]
    assert not failed
    assert results["tried"][kind] == COUNT


def test_an_attack_that_succeeds_is_seen(tmp_path):
    """The harness itself: each fault that it looks for is found where it is."""
    code = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from harness import Attack, try_attack
def evil(act, **options):
    attack = Attack("evil", lambda folder, canary: lambda: act(folder, canary), **options)
    return try_attack("x", attack)
def fail(*_): raise KeyError("x")
print([
    evil(lambda folder, canary: canary.touch()).faults,
    evil(lambda folder, canary: (folder / "stray").touch()).faults,
    evil(fail).faults,
    evil(lambda *_: print(chr(27) + "[2J")).faults,
    evil(lambda *_: os.kill(os.getpid(), 11)).faults,
    evil(lambda *_: None, must_fail=True).faults,
    evil(lambda *_: None).faults,
])
"""
    command = [sys.executable, "-c", code, str(RUN.parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    faults = eval(done.stdout)
    assert faults == [
        ("code was run",),
        ("stray files: place/stray",),
        ("a traceback",),
        ("control characters for the terminal",),
        ("it died of SIGSEGV",),
        ("it was taken for good",),
        (),
    ], done.stderr
