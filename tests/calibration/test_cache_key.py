"""What a recording was made from: named exactly, and never taken for another's."""

import copy
import json
from dataclasses import replace
from functools import partial

import pytest

from relo_edge.bundle import Bundle
from relo_edge.calibration.cache_key import claim_folder, describe_recording
from relo_edge.calibration.plan import plan_runs
from relo_edge.clips.clip import find_clips
from relo_edge.errors import BundleError, InputError


@pytest.fixture(scope="module")
def runs():
    return plan_runs(find_clips([])[:2], 12)


@pytest.fixture
def identity(small_bundle, runs):
    return describe_recording(small_bundle, runs)


def copy_bundle(bundle, **hashes):
    """A bundle whose manifest names other graphs."""
    manifest = copy.deepcopy(bundle.manifest)
    for name, digest in hashes.items():
        manifest["files"][f"{name}.onnx"]["sha256"] = digest
    return Bundle(bundle.path, bundle.variant, manifest)


def move_first_box(runs):
    return [replace(runs[0], box=(1.0, 2.0, 30.0, 40.0)), *runs[1:]]


def test_the_same_recording_is_welcome_again(small_bundle, identity, tmp_path):
    claim_folder(tmp_path / "cache", identity)
    claimed = {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()}
    runs = plan_runs(find_clips([])[:2], 12)
    claim_folder(tmp_path / "cache", describe_recording(small_bundle, runs))
    assert claimed == {path: path.read_bytes() for path in (tmp_path / "cache").iterdir()}


@pytest.mark.parametrize(
    ("change_bundle", "change_runs", "message"),
    [
        (partial(copy_bundle, step="f" * 64), list, "graph: found step.onnx .*, expected step.o"),
        (partial(copy_bundle, template="f" * 64), list, "graph: .*, expected template.onnx ffff"),
        (copy_bundle, lambda _: plan_runs(find_clips([])[2:4]), "clip: found synthetic-100.*"),
        (copy_bundle, lambda runs: runs[:1], "clip: found synthetic-100.*, expected none more"),
        (copy_bundle, move_first_box, "plan: found 2 runs of 12 frames .*, expected 2 runs of 12"),
        (copy_bundle, lambda runs: runs * 2, "plan: .*, expected 4 runs of 24 frames"),
    ],
)
def test_another_recording_is_refused_by_name(
    small_bundle, runs, identity, tmp_path, change_bundle, change_runs, message
):
    claim_folder(tmp_path, identity)
    other = describe_recording(change_bundle(small_bundle), change_runs(runs))
    with pytest.raises(BundleError, match=f"is of another {message}") as caught:
        claim_folder(tmp_path, other)
    assert str(caught.value).endswith(f"; delete {tmp_path}, or record into another folder")
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(identity, tmp_path):
    (tmp_path / "recording.json").write_text(json.dumps({"format": [["version", "99"]]}))
    with pytest.raises(BundleError, match="another format: found version 99, expected version 2"):
        claim_folder(tmp_path, identity)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1}', '{"format": [["a"]]}', "\x00"])
def test_a_damaged_identity(identity, tmp_path, text):
    (tmp_path / "recording.json").write_text(text)
    with pytest.raises(BundleError, match="recording.json cannot be read"):
        claim_folder(tmp_path, identity)


def test_samples_of_unknown_origin(identity, tmp_path):
    (tmp_path / "run-0000.npz").write_bytes(b"")
    with pytest.raises(BundleError, match=r"found samples without recording.json; delete"):
        claim_folder(tmp_path, identity)


def test_a_folder_that_cannot_be(identity, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="recording folder .*Not a directory"):
        claim_folder(tmp_path / "file" / "cache", identity)
