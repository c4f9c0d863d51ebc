"""Files and folders that are there whole or not at all."""

import os
import pwd
from pathlib import Path

import pytest

from relo_edge.errors import InputError, SourceError
from relo_edge.host import files
from relo_edge.host.exchange import exchange
from relo_edge.host.files import (
    find_cache,
    find_state,
    hash_file,
    open_regular,
    publish_folder,
    recover_folder,
    share_file,
    write_text,
)


def test_a_folder_appears_whole(tmp_path):
    with publish_folder(tmp_path / "deep" / "new") as part:
        (part / "file").write_text("x")
        assert not (tmp_path / "deep" / "new").exists()
    assert (tmp_path / "deep" / "new" / "file").read_text() == "x"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["new"]


def fail_to_publish(path, error):
    with publish_folder(path) as part:
        (part / "file").write_text("new")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_folder(tmp_path, error):
    with publish_folder(tmp_path / "b") as part:
        (part / "file").write_text("old")
    with pytest.raises(error):
        fail_to_publish(tmp_path / "b", error)
    assert (tmp_path / "b" / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_replacement_takes_nothing_over(tmp_path):
    for name in ("one", "two"):
        with publish_folder(tmp_path / "b") as part:
            (part / name).write_text(name)
    assert [p.name for p in (tmp_path / "b").iterdir()] == ["two"]


def test_text_is_replaced_in_one_move(tmp_path, monkeypatch):
    path = tmp_path / "t"
    write_text(path, "old")

    def fill_disk(path, _content):
        path.open("wb").write(b"ha")  # half of it, then no more
        raise OSError("full")

    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(OSError, match="full"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def test_hashes_are_sha256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert hash_file(tmp_path / "f").startswith("ba7816bf8f01cfea")


def test_a_cache_that_cannot_be_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(InputError, match="XDG_CACHE_HOME"):
        find_cache()


def test_a_folder_that_does_not_open_is_written_into(tmp_path, monkeypatch):
    """As none does on Windows, and one that is closed to readers elsewhere."""
    real = os.open

    def refuse(path, flags, *mode):
        if Path(path).is_dir():
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    write_text(tmp_path / "a.txt", "whole")
    assert (tmp_path / "a.txt").read_text() == "whole"


def test_a_place_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="cannot be written"), publish_folder(tmp_path / "file/b"):
        pass


def test_the_current_folder_can_be_published_to(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with publish_folder(Path()) as part:
        (part / "file").write_text("x")
    assert (tmp_path / "here" / "file").read_text() == "x"
    assert [p.name for p in tmp_path.iterdir()] == ["here"]


def test_a_failed_move_puts_the_old_folder_back(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "exchange", lambda *_: False)
    with publish_folder(tmp_path / "b") as part:
        (part / "file").write_text("old")
    move, calls = Path.rename, []

    def fail_second(self, target):
        calls.append(self)
        if len(calls) == 2:
            raise OSError(5, "broken disk")
        return move(self, target)

    monkeypatch.setattr(Path, "rename", fail_second)
    with pytest.raises(SourceError, match="broken disk"), publish_folder(tmp_path / "b") as part:
        (part / "file").write_text("new")
    assert (tmp_path / "b" / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def list_names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_two_folders_change_places(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("no RENAME_EXCHANGE here")
    assert list_names(tmp_path / "a") == ["b"]
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "none")


def test_a_file_in_the_way_stays(tmp_path):
    (tmp_path / "b").write_text("mine")
    with pytest.raises(SourceError, match="there is a file"), publish_folder(tmp_path / "b"):
        pass
    assert (tmp_path / "b").read_text() == "mine"
    assert list_names(tmp_path) == ["b"]


def test_what_a_killed_process_left_is_brought_back_or_swept(tmp_path):
    (tmp_path / ".b.00000000.old").mkdir()
    (tmp_path / ".b.00000000.old" / "file").write_text("old")
    (tmp_path / ".b.11111111.part").mkdir()
    (tmp_path / ".bb.11111111.part").mkdir()  # of another output
    (tmp_path / ".b.lock").write_text("1")
    recover_folder(tmp_path / "b")
    assert (tmp_path / "b" / "file").read_text() == "old"
    assert list_names(tmp_path) == [".bb.11111111.part", "b"]


def test_a_file_that_a_killed_process_left_is_swept_once_it_is_old(tmp_path):
    left, fresh = tmp_path / ".t.00000000.part", tmp_path / ".t.11111111.part"
    for part in (left, fresh):
        part.write_text("half")
    os.utime(left, (0, 0))
    write_text(tmp_path / "t", "new")
    assert list_names(tmp_path) == [".t.11111111.part", "t"]


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_the_users_umask_decides_who_may_read(tmp_path, mask, file, folder):
    before = os.umask(mask)
    try:
        write_text(tmp_path / "t", "x")
        with publish_folder(tmp_path / "b"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "t").stat().st_mode & 0o777 == file
    assert (tmp_path / "b").stat().st_mode & 0o777 == folder


def test_a_folder_is_not_published_through_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "b").symlink_to("elsewhere")
    with pytest.raises(InputError, match="found a link"), publish_folder(tmp_path / "b"):
        pass
    assert list_names(tmp_path / "elsewhere") == []


def test_a_text_takes_a_links_place_and_leaves_what_it_led_to(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "t").symlink_to("target")
    write_text(tmp_path / "t", "new")
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "t").read_text() == "new"


def test_a_link_is_shared_as_a_link(tmp_path):
    (tmp_path / "link").symlink_to("/etc/hostname")
    share_file(tmp_path / "link", tmp_path / "copy")
    assert (tmp_path / "copy").is_symlink()


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in (
        (tmp_path / "fifo", "a FIFO"),
        (tmp_path, "a folder"),
        ("/dev/zero", "a dev"),
    ):
        with pytest.raises(ValueError, match=kind):
            open_regular(path)


@pytest.mark.parametrize("find", [find_cache, find_state])
def test_a_user_without_a_home_is_told_what_to_set(monkeypatch, find):
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def forget(_number):
        raise KeyError("uid not found")

    monkeypatch.setattr(pwd, "getpwuid", forget)
    with pytest.raises(InputError, match="no home folder; set HOME, or XDG_"):
        find()
