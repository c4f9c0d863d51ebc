"""The bundle called demo: shipped as the exporter makes it, copied whole, and not for ever."""

import json
import os
import shutil
import time

import numpy as np
import pytest

from relo_edge.bundle import MANIFEST, describe_files, open_bundle, write_manifest
from relo_edge.errors import BundleError, SourceError
from relo_edge.export import demo
from relo_edge.export.demo import SHIPPED, STALE, find_demo_bundle, ship_demo_bundle
from relo_edge.host.files import find_cache, hash_file
from relo_edge.network.demo import find_demo_checkpoint


def age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache of its own, with the demo bundle in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    find_demo_bundle()
    return find_cache()


@pytest.fixture
def copies(monkeypatch):
    """How often the shipped bundle was copied."""
    made, copy = [], demo._copy_shipped
    monkeypatch.setattr(demo, "_copy_shipped", lambda *a: made.append(a) or copy(*a))
    return made


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A shipped bundle that a test may change."""
    folder = shutil.copytree(SHIPPED, tmp_path / "shipped")
    monkeypatch.setattr(demo, "SHIPPED", folder)
    return folder


def read_weights(folder):
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(folder / "step.onnx").graph
    nodes = [(node.op_type, list(node.input), list(node.output)) for node in graph.node]
    return nodes, {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


@pytest.mark.slow
def test_what_is_shipped_is_what_the_exporter_makes(shipped):
    """If this fails, the exporter or the weights changed: `make demo-bundle`, and commit it."""
    ship_demo_bundle()
    made, published = (json.loads((path / MANIFEST).read_text()) for path in (shipped, SHIPPED))
    for key in ("format", "family", "variant", "checkpoint", "graphs", "state_dtype"):
        assert made[key] == published[key]
    (nodes, weights), (shipped_nodes, shipped_weights) = map(read_weights, (shipped, SHIPPED))
    assert nodes == shipped_nodes
    assert weights.keys() == shipped_weights.keys()
    for name, values in weights.items():
        np.testing.assert_allclose(values, shipped_weights[name], rtol=1e-5, atol=1e-6)


def test_what_is_shipped_names_no_machine_and_these_weights():
    checkpoint = json.loads((SHIPPED / MANIFEST).read_text())["checkpoint"]
    weights = find_demo_checkpoint()
    assert checkpoint == {"path": weights.name, "sha256": hash_file(weights)}


def test_it_is_copied_once_and_knows_its_weights(cache, copies):
    first, second = find_demo_bundle(), find_demo_bundle()
    assert first.path == second.path
    assert first.path.parent == cache
    assert not copies
    assert find_demo_checkpoint().samefile(first.manifest["checkpoint"]["path"])
    assert [path.name for path in cache.iterdir()] == [first.path.name]


def test_what_the_user_added_stays(cache, copies):
    bundle = find_demo_bundle()
    (bundle.path / "more.txt").write_text("mine")
    files = {**bundle.manifest["files"], **describe_files(bundle.path, "more.txt")}
    write_manifest(bundle.path, {**bundle.manifest, "files": files})
    assert "more.txt" in find_demo_bundle().manifest["files"]
    assert not copies


def test_a_cache_that_somebody_has_written_to_is_made_again(cache, copies):
    """Even where the manifest has been made to fit."""
    path = find_demo_bundle().path
    graph = path / "step.onnx"
    before = graph.read_bytes()
    graph.write_bytes(before + b"\x0a\x00")
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"].update(describe_files(path, "step.onnx"))
    write_manifest(path, manifest)
    assert not open_bundle(path).find_damage()
    assert find_demo_bundle().graph("step").read_bytes() == before
    assert len(copies) == 1
    find_demo_bundle()
    assert len(copies) == 1


def test_another_version_has_another(cache, copies, shipped):
    (old,) = cache.iterdir()
    manifest = json.loads((shipped / MANIFEST).read_text())
    write_manifest(shipped, {**manifest, "tools": {}})
    new = find_demo_bundle().path
    assert new != old
    assert sorted(cache.iterdir()) == sorted([old, new])
    assert find_demo_bundle().path == new
    assert len(copies) == 1


def test_a_damaged_install_is_one_line_and_leaves_nothing(shipped, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (shipped / "step.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="built-in bundle is damaged.*step.onnx.*install it"):
        find_demo_bundle()
    assert not list(find_cache().iterdir())


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(demo.shutil, "copyfile", refuse)
    with pytest.raises(SourceError, match="cannot be written: found No space left on device"):
        find_demo_bundle()
    assert not list(find_cache().iterdir())


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


def test_of_two_at_once_the_first_has_its_way(cache, copies, monkeypatch):
    """The other process publishes while this one still copies."""
    (sound,) = cache.iterdir()
    other = sound.rename(cache / "other")
    copy = shutil.copyfile

    def copy_slowly(*names):
        if other.exists():
            other.rename(sound)
            (sound / "first").touch()
        return copy(*names)

    monkeypatch.setattr(demo.shutil, "copyfile", copy_slowly)
    assert find_demo_bundle().path == sound
    assert (sound / "first").exists()
    assert len(copies) == 1
    assert list(cache.iterdir()) == [sound]


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
