"""OpenVINO in one process: opened and closed as often and in whatever order."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from engines import add_int8

from relo_edge.bundle import open_bundle
from relo_edge.geometry import hann_window
from relo_edge.runtime import open_runtime

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


PINNED = """
import os, threading
from contextlib import suppress
import numpy as np
from relo_edge.geometry import hann_window
from relo_edge.runtime import open_runtime
fewest = set()
def look():
    while not over.is_set():
        for name in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):
                fewest.add(len(os.sched_getaffinity(int(name))))
with open_runtime("demo", "openvino", "fp32", threads=1) as runtime:
    side, window = runtime.variant.search_size, hann_window(runtime.variant.grid, 2.0)
    over = threading.Event()
    looking = threading.Thread(target=look)
    looking.start()
    for _ in range(30):  # a thread is pinned while it computes
        runtime.step([0], np.zeros((1, side, side, 3), np.uint8), window)
    over.set()
    looking.join()
print(min(fewest))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks Linux where threads may run")
def test_a_part_of_the_cores_is_no_certain_core(tmp_path):
    """Pinned, all processes of one thread each would share the first core."""
    words = [sys.executable, "-c", PINNED]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, int(done.stdout)) == (0, len(os.sched_getaffinity(0))), done.stderr


@pytest.mark.slow
def test_arrays_that_are_read_only_are_taken(small_bundle):
    """Ray hands over such arrays."""
    rng, variant = np.random.default_rng(0), small_bundle.variant
    sizes = (variant.template_size, variant.search_size)
    template, search = (rng.integers(0, 256, (size, size, 3), np.uint8) for size in sizes)
    given = [template, np.full(4, 0.3, np.float32), search[None], hann_window(variant.grid, 1.0)]
    boxes = []
    for writable in (True, False):
        for array in given:
            array.flags.writeable = writable
        with open_runtime(small_bundle, "openvino", "fp32") as runtime:
            runtime.encode_template(0, 0, *given[:2])
            boxes.append(runtime.step([0], *given[2:]).boxes)
    assert np.array_equal(*boxes)


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False])
def test_int8_that_overflows_is_said(small_bundle, tmp_path, monkeypatch, caplog, exact):
    monkeypatch.setattr("relo_edge.runtimes.openvino.has_exact_int8", lambda: exact)
    shutil.copytree(small_bundle.path, tmp_path / "b")
    with open_runtime(add_int8(open_bundle(tmp_path / "b")), "openvino", "int8"):
        pass
    assert ("overflows on a CPU without VNNI" in caplog.text) is not exact
