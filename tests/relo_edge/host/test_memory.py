"""Heaps of the C library, counted where it is glibc."""

import platform
import subprocess
import sys

import pytest

COUNT_HEAPS = """
import ctypes, sys, tempfile, threading
from relo_edge.host.memory import limit_arenas
if sys.argv[1] == "limited":
    assert limit_arenas()
libc, gate = ctypes.CDLL(None), threading.Barrier(16)
libc.malloc.restype = ctypes.c_void_p
def allocate():
    gate.wait()
    libc.malloc(ctypes.c_size_t(4000))
    gate.wait()
threads = [threading.Thread(target=allocate) for _ in range(16)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(file.read().count(b"<heap nr="))
"""


def count_heaps(word):
    command = [sys.executable, "-c", COUNT_HEAPS, word]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not glibc")
def test_many_threads_share_two_heaps(monkeypatch):
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    assert count_heaps("free") > 4
    assert count_heaps("limited") <= 2


def test_what_the_user_set_is_left_alone(monkeypatch):
    from relo_edge.host.memory import limit_arenas

    monkeypatch.setenv("MALLOC_ARENA_MAX", "8")
    assert not limit_arenas()
