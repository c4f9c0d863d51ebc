"""One writer at a time; a lock ends with its process, however that ends."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from relo_edge.errors import InputError
from relo_edge.host import locks
from relo_edge.host.files import publish_folder
from relo_edge.host.locks import hold, is_abandoned, lock_output


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_writer_is_refused_in_one_line_and_told_who_writes(tmp_path):
    output = tmp_path / "out.csv"
    with (
        lock_output(output),
        pytest.raises(InputError, match=rf"is being written: found process {os.getpid()}; wait"),
        lock_output(output),
    ):
        pass
    assert list_names(tmp_path) == []
    with lock_output(output):  # and once it has ended, the next may
        pass


def test_who_waits_goes_on_when_the_first_ends(tmp_path):
    order, ready = [], threading.Event()

    def wait():
        ready.set()
        with lock_output(tmp_path / "out", wait=True):
            order.append("second")

    with lock_output(tmp_path / "out"):
        second = threading.Thread(target=wait)
        second.start()
        ready.wait()
        order.append("first")
    second.join(timeout=10)
    assert order == ["first", "second"]
    assert list_names(tmp_path) == []


def add_numbers(folder, times):
    for _ in range(times):
        with publish_folder(folder / "out", wait=True) as part:
            number = folder / "out" / "number"
            before = int(number.read_text()) if number.exists() else 0
            (part / "number").write_text(str(before + 1))


def test_what_is_read_under_the_lock_is_never_lost(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_numbers, args=(tmp_path, 20)) for _ in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "out" / "number").read_text() == "80"
    assert list_names(tmp_path) == ["out"]


def test_a_killed_writers_lock_is_nobodys(tmp_path):
    child = os.fork()
    if not child:
        with lock_output(tmp_path / "out"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert list_names(tmp_path) == [".out.lock"]
    with lock_output(tmp_path / "out"):
        pass
    assert list_names(tmp_path) == []


def test_a_temporary_file_is_abandoned_once_nobody_holds_it(tmp_path):
    part = tmp_path / "part"
    part.touch()
    with hold(part):
        assert not is_abandoned(part)
    assert is_abandoned(part)
    assert not is_abandoned(tmp_path / "none")


def test_without_locks_files_are_written_all_the_same(tmp_path, monkeypatch):
    """As on Windows, where a folder cannot even be opened."""
    monkeypatch.setattr(locks, "fcntl", None)
    with lock_output(tmp_path / "out"), hold(tmp_path / "none"):
        assert list_names(tmp_path) == []
    assert not is_abandoned(tmp_path)


@pytest.mark.slow
def test_without_fcntl_a_target_is_tracked():
    code = "import sys; sys.modules['fcntl'] = None; from relo_edge.cli import main; main()"
    words = ["track", "synthetic:frames=4,size=160x120", "--init", "40,30,30,30", "--boxes", "-"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words, "--bundle", "demo"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_where_no_lock_can_be_made_none_is_demanded(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with lock_output(tmp_path / "closed" / "out"):
        pass
