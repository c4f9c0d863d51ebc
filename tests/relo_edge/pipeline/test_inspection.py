"""`inspect`: a bundle that anybody has tampered with is never called sound."""

import hashlib
import json
import os
import shutil

import pytest
from sidecars_on_disk import PLAN, write_engine
from verbs import run_verb

from relo_edge.bundle import MANIFEST, open_bundle
from relo_edge.errors import BundleError
from relo_edge.pipeline.inspection import inspect_bundle
from relo_edge.runtimes.tensorrt.trust import record_plan


@pytest.fixture
def copied(small_bundle, tmp_path):
    shutil.copytree(small_bundle.path, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


def test_an_engine_as_it_was_built_is_sound(copied):
    record_plan(hashlib.sha256(PLAN).hexdigest())
    write_engine(copied)
    inspection = inspect_bundle(copied.path)
    assert inspection.is_sound
    assert [engine["state"] for engine in inspection.engines] == ["ok"]


def test_an_engine_of_another_machine_is_told(capsys, copied, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_engine(copied)
    _, out, _ = run_verb(capsys, "inspect", copied.path)
    assert "FOREIGN" in out
    assert "was not built on this machine: only `--trust-engine` loads it" in out


def test_an_engine_of_a_graph_that_was_replaced_is_stale_not_damaged(copied):
    write_engine(copied, graph_sha256="0" * 64)
    inspection = inspect_bundle(copied.path)
    assert inspection.is_sound
    assert [engine["state"] for engine in inspection.engines] == ["STALE"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"plan": "../../evil.plan"}, "a plain file name"),
        ({"plan": "/tmp/evil.plan"}, "a plain file name"),
        ({"plan": "..\\evil.plan"}, "a plain file name"),
        ({"plan": ".hidden"}, "a plain file name"),
        ({"plan": ["step.plan"]}, "a plain file name"),
        ({"plan": "none.plan"}, "not the plan"),
        ({"plan_sha256": "0" * 64}, "not the plan"),
        ({"plan_sha256": 7}, "a SHA-256"),
        ({"compatible": "anything"}, "version or hardware"),
        ({"batch": 10**30}, "a whole number"),
        ({"batch": True}, "a whole number"),
        ({"compute_capability": [8]}, "2 to 2 entries"),
        ({"profiles": {"search": [[1, 2], "x", 3]}}, "a list"),
        ({"kept_in_float32": {"node": 1}}, "a text"),
        ({"format": 99}, "format 99"),
        ({"gpu": "x" * 1000}, "at most 128 characters"),
    ],
    ids=str,
)
def test_a_sidecar_that_was_tampered_with_is_damaged(capsys, copied, changes, told):
    write_engine(copied, **changes)
    code, out, _ = run_verb(capsys, "inspect", copied.path)
    assert code == 1
    assert out.splitlines()[-1] == "DAMAGED"
    assert told in out


def plant_link(bundle, tmp_path):
    (tmp_path / "evil.plan").write_bytes(b"evil")
    plan = write_engine(bundle).with_suffix(".plan")
    plan.unlink()
    plan.symlink_to(tmp_path / "evil.plan")


def plant_fifo(bundle, _tmp_path):
    plan = write_engine(bundle).with_suffix(".plan")
    plan.unlink()
    os.mkfifo(plan)


def plant_folder_link(bundle, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (bundle.path / "engines").symlink_to(tmp_path / "elsewhere")


def plant_fifo_sidecar(bundle, _tmp_path):
    (bundle.path / "engines").mkdir()
    os.mkfifo(bundle.path / "engines" / "a.json")


@pytest.mark.parametrize("plant", [plant_link, plant_fifo, plant_folder_link, plant_fifo_sidecar])
def test_no_engine_lies_elsewhere_or_waits_for_ever(copied, tmp_path, plant):
    plant(copied, tmp_path)
    assert not inspect_bundle(copied.path).is_sound


@pytest.mark.parametrize("name", [MANIFEST, "step.onnx"])
def test_a_link_out_of_the_bundle_is_refused(copied, tmp_path, name):
    shutil.move(copied.path / name, tmp_path / name)
    (copied.path / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match="a link that leads out of it.*cp -rL"):
        open_bundle(copied.path)


def test_a_link_within_the_bundle_is_fine(copied):
    (copied.path / "step.onnx").rename(copied.path / "real.onnx")
    (copied.path / "step.onnx").symlink_to("real.onnx")
    assert inspect_bundle(copied.path).is_sound


@pytest.mark.parametrize("name", [MANIFEST, "step.onnx"])
def test_a_fifo_in_a_files_place_is_refused_at_once(copied, name):
    (copied.path / name).unlink()
    os.mkfifo(copied.path / name)
    with pytest.raises(BundleError, match="a FIFO"):
        open_bundle(copied.path)


@pytest.mark.parametrize(
    "name", ["../step.onnx", "/etc/passwd", "a/b", ".", "..", "-rf", "a\0b", ""]
)
def test_a_manifest_names_plain_files_only(copied, name):
    manifest = json.loads((copied.path / MANIFEST).read_text())
    manifest["files"][name] = manifest["files"].pop("step.onnx")
    manifest["graphs"]["fp32"]["step"] = name
    (copied.path / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="expected a plain file name"):
        open_bundle(copied.path)
