"""The cached demo bundle: of this exporter and these weights, whole, and not for ever."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from relo_edge.bundle import MANIFEST, describe_files, open_bundle, write_manifest
from relo_edge.errors import MissingDependency
from relo_edge.export import demo, publishing
from relo_edge.export.demo import STALE, find_demo_bundle
from relo_edge.host.files import find_cache


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, with the demo bundle in it."""
    found = find_demo_bundle().path
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    shutil.copytree(found, find_cache() / found.name)
    return find_cache()


@pytest.fixture
def exports(monkeypatch):
    """How often something was exported."""
    made, export = [], demo.export_bundle
    monkeypatch.setattr(demo, "export_bundle", lambda *a: made.append(a) or export(*a))
    return made


@pytest.fixture
def changed_exporter(tmp_path, monkeypatch):
    folder = tmp_path / "export"
    shutil.copytree(Path(demo.__file__).parent, folder)
    with (folder / "heads.py").open("a") as file:
        file.write("# another\n")
    monkeypatch.setattr(demo, "__file__", str(folder / "demo.py"))


def test_it_is_made_once(cache, exports):
    first, second = find_demo_bundle(), find_demo_bundle()
    assert first.path == second.path
    assert first.path.parent == cache
    assert not exports
    assert [path.name for path in cache.iterdir()] == [first.path.name]


@pytest.mark.slow
def test_a_cache_that_somebody_has_written_to_is_made_again(cache, exports, tmp_path, monkeypatch):
    """Even where the manifest has been made to fit."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = find_demo_bundle().path
    graph = path / "step.onnx"
    before = graph.read_bytes()
    graph.unlink()
    graph.write_bytes(before + b"\x0a\x00")
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"].update(describe_files(path, "step.onnx"))
    write_manifest(path, manifest)
    assert not open_bundle(path).find_damage()
    assert find_demo_bundle().graph("step").read_bytes() == before
    assert len(exports) == 1
    find_demo_bundle()
    assert len(exports) == 1


def test_without_a_state_folder_the_cache_does(cache, exports, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    find_demo_bundle()
    assert not exports


@pytest.mark.slow
def test_another_exporter_makes_another(cache, exports, changed_exporter):
    (old,) = cache.iterdir()
    new = find_demo_bundle().path
    assert len(exports) == 1
    assert sorted(cache.iterdir()) == sorted([old, new])
    assert new != old
    assert find_demo_bundle().path == new
    assert len(exports) == 1


def test_its_makers_are_the_exporter_the_network_and_what_they_are_told(cache):
    names = {f"{file.parent.name}/{file.name}" for file in demo._list_makers()}
    assert {"export/folding.py", "network/layers.py", "network/demo.safetensors"} <= names
    assert {"relo_edge/spec.py", "relo_edge/contract.py"} <= names


def test_what_nobody_uses_any_more_is_removed(cache):
    used = find_demo_bundle().path
    of_before = age(shutil.copytree(used, cache / "demo-0.0.1"), STALE + 60)
    of_the_killed = cache / f".{used.name}.x1y2z3"
    of_the_killed.mkdir()
    age(of_the_killed, STALE + 60)
    other = age(shutil.copytree(used, cache / "demo-0.2.0-01234567"), STALE - 60)
    being_written = cache / f".{used.name}.a1b2c3"
    being_written.mkdir()
    foreign = cache / "recordings"
    foreign.mkdir()
    age(foreign, 2 * STALE)
    age(used, 2 * STALE)
    assert find_demo_bundle().path == used
    assert not of_before.exists()
    assert not of_the_killed.exists()
    assert sorted(cache.iterdir()) == sorted([used, other, being_written, foreign])
    assert time.time() - used.stat().st_mtime < STALE


def test_of_two_at_once_the_first_has_its_way(cache, exports, monkeypatch):
    """The other process publishes while this one still exports."""
    (sound,) = cache.iterdir()
    other = sound.rename(cache / "other")
    made = []

    def export(checkpoint, output):
        made.append(shutil.copytree(other, output))
        other.rename(sound)
        (sound / "first").touch()
        return open_bundle(output)

    monkeypatch.setattr(demo, "export_bundle", export)
    assert find_demo_bundle().path == sound
    assert (sound / "first").exists()
    assert len(made) == 1
    assert list(cache.iterdir()) == [sound]


@pytest.mark.slow
def test_a_damaged_one_gives_way(cache):
    (path,) = cache.iterdir()
    (path / "step.onnx").write_bytes(b"")
    (path / "left").touch()
    assert not find_demo_bundle().find_damage()
    assert not (path / "left").exists()
    assert list(cache.iterdir()) == [path]


def test_a_cache_that_can_only_be_read_will_do(cache, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(demo.os, "utime", refuse)
    assert find_demo_bundle().path.parent == cache


def test_without_torch_the_line_says_what_demo_needs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(publishing, "find_spec", lambda package: None)
    with pytest.raises(MissingDependency, match=r"called demo is exported on first.*\[export\]"):
        find_demo_bundle()
    assert not list(find_cache().iterdir())
