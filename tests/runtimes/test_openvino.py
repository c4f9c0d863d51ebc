"""OpenVINO in one process: opened and closed as often and in whatever order."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

CTRL_C = """
import gc, signal
from relo_edge.runtime import open_runtime
first, second = (open_runtime("demo", "openvino", "fp32") for _ in range(2))
first.close()
second.close()
del first, second
gc.collect()
signal.signal(signal.SIGINT, lambda *_: print("seen"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.slow
def test_ctrl_c_after_two_runtimes_is_seen(tmp_path):
    """Handlers run on a signal stack that the plugin gives the thread, and must not take away."""
    words = [sys.executable, "-c", CTRL_C]  # elsewhere: the repository's folder hides the install
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "seen\n"), done.stderr
