"""A service manager's word, or a closed terminal, ends a verb as Ctrl-C does: nothing is left."""

import os
import signal
import subprocess
import sys
import time

import pytest

from relo_edge.host.signals import catch_interrupt, raise_on_end
from relo_edge.network.demo import find_demo_checkpoint


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_export_that_is_ended_leaves_nothing(tmp_path, number):
    scratch, place = tmp_path / "tmp", tmp_path / "place"
    scratch.mkdir()
    place.mkdir()
    words = ["export", "--checkpoint", find_demo_checkpoint(), "-o", "place/bundle"]
    child = subprocess.Popen(
        [sys.executable, "-m", "relo_edge", *map(str, words)],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    end = time.monotonic() + 60
    while not list(place.glob(".bundle.*.part/*")):  # until there is something to clean up
        assert time.monotonic() < end
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert err.splitlines()[-1] == "relo-edge: interrupted"
    assert "Traceback" not in err
    assert list(place.iterdir()) == []
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_it_is_raised_only_meanwhile(number):
    before = signal.getsignal(number)
    with raise_on_end(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_a_hang_up_is_a_wish_to_stop(monkeypatch):
    with catch_interrupt() as pressed:
        signal.raise_signal(signal.SIGHUP)
        assert pressed.is_set()


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raise_on_end(), catch_interrupt() as pressed:
            signal.raise_signal(signal.SIGHUP)
            assert not pressed.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)
