"""Files and folders that are there whole or not at all."""

from pathlib import Path

import pytest

from relo_edge.errors import InputError, SourceError
from relo_edge.host.files import find_cache, hash_file, publish_folder, write_text


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
