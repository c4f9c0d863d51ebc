"""Bundles that were tampered with, cut short or written by another version: one line each."""

import errno
import json
import os
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relo_edge.bundle import (
    MANIFEST,
    Bundle,
    describe_files,
    open_bundle,
    publish_precision,
    write_manifest,
)
from relo_edge.errors import BundleError, InputError, ReloError
from relo_edge.runtime import open_runtime
from relo_edge.spec import VARIANTS


@pytest.fixture
def copied(demo_bundle, tmp_path) -> Bundle:
    shutil.copytree(demo_bundle.path, tmp_path / "bundle")
    return open_bundle(tmp_path / "bundle")


def rewrite(bundle, change):
    manifest = json.loads((bundle.path / MANIFEST).read_text())
    change(manifest)
    write_manifest(bundle.path, manifest)


def test_a_flipped_byte_is_noticed_and_the_repair_named(copied):
    file = copied.path / "step.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(BundleError, match=r"step\.onnx .* found sha256 .*`relo-edge export"):
        open_runtime(copied.path, "onnxruntime")
    assert list(copied.find_damage()) == ["step.onnx"]


def test_a_file_cut_short_is_noticed(copied):
    file = copied.path / "template.onnx"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"found \d+ bytes, expected \d+ bytes"):
        copied.graph("template")


def test_a_missing_file_is_noticed(copied):
    (copied.path / "template.onnx").unlink()
    with pytest.raises(BundleError, match="no such file"):
        open_runtime(copied.path, "openvino")


def test_the_first_format_is_read_for_ever(copied):
    """It named no family: there was one."""
    written = []

    def age(manifest):
        written.append(dict(manifest))
        manifest["format"] = 1
        del manifest["family"]

    rewrite(copied, age)
    old = open_bundle(copied.path)
    assert written[0]["format"] == 2
    assert (old.variant, old.variant.family) == (VARIANTS["demo"], "relo")
    with open_runtime(old, "onnxruntime") as runtime:
        assert runtime.read_state(0)["temporal_tokens"].shape == VARIANTS["demo"].state_shape


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("norelo", r"family: found 'norelo', expected relo \| sutrack.*; update relo-edge"),
        ("sutrack", "does not describe|differs|is not of|expected"),
        (3, "family: found 3, expected a text"),
    ],
)
def test_another_family_than_the_graphs_is_one_line(copied, family, message):
    rewrite(copied, lambda manifest: manifest.update(family=family))
    with pytest.raises(BundleError, match=message) as raised:
        open_runtime(copied.path, "onnxruntime")
    assert "\n" not in str(raised.value)


def test_a_newer_format_is_refused(copied):
    rewrite(copied, lambda m: m.update(format=99))
    with pytest.raises(BundleError, match=r"found 99, expected 2 or older; update relo-edge"):
        open_bundle(copied.path)


def test_another_variants_manifest_is_refused(copied, small_bundle):
    shutil.copy(small_bundle.path / MANIFEST, copied.path)
    with pytest.raises(BundleError, match=r"not the file that its manifest \(small\) describes"):
        open_runtime(copied.path, "onnxruntime")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_another_variants_section_is_refused(copied, runtime):
    rewrite(copied, lambda m: m.update(variant=VARIANTS["t256"].to_dict()))
    with pytest.raises(BundleError, match="not of the manifest's variant, t256: template"):
        open_runtime(copied.path, runtime)


def test_a_variant_that_is_not_this_versions_is_refused(copied):
    rewrite(copied, lambda m: m["variant"].update(heads=6))
    with pytest.raises(BundleError, match="demo's heads: found 6, expected 3"):
        open_bundle(copied.path)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["files"].pop("step.onnx"),
        lambda m: m["checkpoint"].pop("sha256"),
        lambda m: m["state_dtype"].pop("fp32"),
        lambda m: m["state_dtype"].update(fp32="nonsense"),
        lambda m: m["graphs"].update(int8=m["graphs"].pop("fp32")),
        lambda m: m["graphs"]["fp32"].pop("step"),
    ],
)
def test_an_incomplete_manifest_is_told(copied, change):
    rewrite(copied, change)
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(copied.path)


def test_a_precision_that_is_not_there_names_the_command(copied):
    with pytest.raises(BundleError, match="relo-edge quantize .* --int8"):
        copied.graph("step", "int8")


def test_no_bundle_at_all(tmp_path):
    with pytest.raises(InputError, match="nothing there"):
        open_bundle(tmp_path / "none")
    with pytest.raises(BundleError, match="no manifest.json"):
        open_bundle(tmp_path)
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(BundleError, match="cannot be read"):
        open_bundle(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@pytest.mark.slow
@given(
    part=st.sampled_from(["format", "variant", "checkpoint", "files", "graphs", "state_dtype"]),
    value=json_values,
)
@settings(max_examples=150, deadline=None)
def test_no_manifest_however_wrong_gives_a_traceback(demo_bundle, tmp_path_factory, part, value):
    folder = tmp_path_factory.mktemp("wrong")
    write_manifest(folder, {**demo_bundle.manifest, part: value})
    try:
        bundle = open_bundle(folder)
        bundle.graph("step")
    except ReloError as error:
        assert "\n" not in str(error)


def test_a_variant_survives_the_manifest():
    def plain(variant):
        return json.loads(json.dumps(variant.to_dict()))

    for variant in VARIANTS.values():
        assert type(variant).from_dict(plain(variant), variant.family) == variant


def add_fp16(bundle, folder):
    """Publish the float graphs once more, as if they were another precision."""
    folder.mkdir()
    graphs = {name: f"{name}.fp16.onnx" for name in bundle.manifest["graphs"]["fp32"]}
    for name, file in graphs.items():
        shutil.copyfile(bundle.graph(name), folder / file)
    manifest = {
        "graphs": {"fp16": graphs},
        "state_dtype": {"fp16": "float32"},
        "files": describe_files(folder, *graphs.values()),
    }
    return publish_precision(bundle, Bundle(folder, bundle.variant, manifest), "fp16", {})


def test_a_precision_joins_the_bundle_one_stands_in(copied, tmp_path, monkeypatch):
    monkeypatch.chdir(copied.path)
    published = add_fp16(open_bundle("."), tmp_path / "made")
    assert published.precisions == ("fp32", "fp16")
    assert not published.find_damage()


def test_a_disk_without_hard_links_takes_copies(copied, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert not add_fp16(copied, tmp_path / "made").find_damage()
