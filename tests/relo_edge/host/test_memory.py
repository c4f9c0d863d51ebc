"""Heaps of the C library, counted where it is glibc."""

import platform
import subprocess
import sys

import pytest

from relo_edge.host.memory import share_one_heap

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")

COUNT_HEAPS = """
import ctypes, sys, tempfile, threading
from relo_edge import open_runtime
runtime = open_runtime("demo", "onnxruntime", lanes=int(sys.argv[1]))
libc, gate = ctypes.CDLL(None), threading.Barrier(16)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
def allocate():
    gate.wait()
    libc.malloc(ctypes.c_size_t(4000))
    gate.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""
"""After a runtime was opened with so many lanes, and many threads have taken memory."""


def count_heaps(lanes):
    command = [sys.executable, "-c", COUNT_HEAPS, str(lanes)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
def test_threads_of_several_sources_share_one_heap(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert count_heaps(lanes=1) > 4
    assert count_heaps(lanes=2) == 1


def test_what_the_user_set_is_left_alone(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    assert not share_one_heap()
