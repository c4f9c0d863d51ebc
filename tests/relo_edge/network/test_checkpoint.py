"""A checkpoint loads whole and exact, or one line says what the file is and what to do."""

import hashlib
import json
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import types
import zipfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from support import DATA
from torch.testing import assert_close

from relo_edge.errors import CheckpointError, InputError, MissingDependency
from relo_edge.families.relo import SIZES
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.spec import VARIANTS

FORMATS = ("zip", "legacy", "safetensors")
SMALL = {"width": 16, "heads": 1, "depth": 1, "temporal_tokens": 2, "head_channels": 8}
TINY = replace(VARIANTS["demo"], name="tiny", search_size=32, template_size=16, **SMALL)
TOKENS, HEAD = "encoder.body.ttokens", "policy_model.conv5_ctr.weight"


@pytest.fixture(autouse=True, scope="module")
def _tiny_variant():
    """A variant whose files are small enough to spoil by the hundred."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "tiny", TINY)
        yield


def tiny_weights(**changes):
    """All weights of the tiny variant; a change to None leaves that one out."""
    weights = dict(draw_weights(TINY)) | changes
    return {name: weight for name, weight in weights.items() if weight is not None}


def convert(weights, dtype):
    return {n: w.to(dtype) if w.is_floating_point() else w for n, w in weights.items()}


def save_as(kind, path, weights):
    """A file as the release's trainer writes it, with objects of a class that no reader knows."""
    if kind == "safetensors":
        save_file(weights, path)
        return path
    stranger = types.ModuleType("stranger")
    stranger.Settings = type("Settings", (), {"__module__": "stranger"})
    extras = {"epoch": 90, "settings": stranger.Settings(), "optimizer": {0: torch.ones(5)}}
    extras["settings"].options = {"device": torch.device("cpu"), "nested": [1, (2, {3})]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "stranger", stranger)
        torch.save({"net": weights} | extras, path, _use_new_zipfile_serialization=kind == "zip")
    return path


def refuse(path, error=CheckpointError, **arguments):
    """The one line that a user reads."""
    with pytest.raises(error) as caught:
        read_checkpoint(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("stored", ["float32", "float16", "bfloat16", "float64"])
def test_every_format_gives_the_same_weights(kind, stored, tmp_path):
    weights = convert(tiny_weights(), getattr(torch, stored))
    path = save_as(kind, tmp_path / "misleading.png", weights)
    read = read_checkpoint(str(path))
    assert (read.variant, read.path) == (TINY, path)
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("r+b") as file:  # weights outlive their file
        file.write(bytes(path.stat().st_size))
    assert_close(read.weights, convert(weights, torch.float32), rtol=0, atol=0)


def test_a_plain_state_dict_loads(tmp_path):
    state = OrderedDict(tiny_weights())
    state._metadata = OrderedDict(version=1)  # as torch's own state dicts have it
    torch.save(state, tmp_path / "state.pt")
    assert torch.equal(read_checkpoint(tmp_path / "state.pt").weights[HEAD], state[HEAD])


@pytest.mark.parametrize("kind", ["zip", "legacy"])
def test_an_optimizer_is_not_read(kind, tmp_path):
    content, path = {"net": tiny_weights(), "optimizer": torch.zeros(4 << 20)}, tmp_path / "file"
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    read_checkpoint(path)
    tracemalloc.start()
    read_checkpoint(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


def test_the_variant_asked_for_must_be_the_one_held(tmp_path):
    path = tmp_path / "demo.safetensors"
    save_file(dict(draw_weights(VARIANTS["demo"])), path)
    assert read_checkpoint(path, "demo").variant is VARIANTS["demo"]
    assert "found demo, expected b256; ask for demo" in refuse(path, variant="b256")
    with pytest.raises(InputError, match="b265"):
        read_checkpoint(path, "b265")


@pytest.mark.parametrize("variant", ["t256", "b256", "l256"])
def test_the_release_layout_is_recognised(variant, tmp_path):
    """One missing name shows that all were compared, and spares a gigabyte of zeros."""
    shapes = json.loads((DATA / f"keys_{variant}.json").read_text())
    weights = {name: torch.tensor(0.0).expand(shape) for name, shape in shapes.items()}
    del weights[HEAD]
    message = refuse(save_as("zip", tmp_path / "RELO_ep0090.pth.tar", weights))
    assert f"does not fit {variant}, weights missing: 1, the first '{HEAD}'" in message


def test_a_path_must_lead_to_a_file(tmp_path):
    assert "no such file" in refuse(tmp_path / "nothing.pth.tar", InputError)
    assert "a folder" in refuse(tmp_path, InputError)
    assert "cannot be opened" in refuse(tmp_path / ("long" * 100), InputError)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"not a checkpoint\n", "starts with b'not a che'"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "starts with b'\\x89PNG"),
        (b"\x80\x04K\x01.", "a pickle that torch did not write"),
        (struct.pack("<Q", 2) + b"{}", "no RELO or SUTrack or DRLT weights: found nothing"),
    ],
)
def test_other_files_are_named(content, reason, tmp_path):
    path = tmp_path / "RELO_ep0090.pth.tar"
    path.write_bytes(content)
    assert reason in refuse(path)


def test_other_archives_are_named(tmp_path):
    path = tmp_path / "file"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "<xml/>")
    assert "torch did not write" in refuse(path)
    torch.save(torch.nn.Linear(1, 1), path)
    assert "'torch.nn.modules.linear.Linear' in the place of a state dict" in refuse(path)


def test_a_warm_up_checkpoint_is_named(tmp_path):
    weights = {n: w for n, w in tiny_weights().items() if n.startswith(("encoder", "decoder"))}
    message = refuse(save_as("zip", tmp_path / "RELO_WARMUP_ep0090.pth.tar", weights))
    assert "is a warm-up checkpoint without a policy head: found no policy_model" in message


def test_another_tracker_is_named(tmp_path):
    weights = {f"encoder.body.block{n}\x1b[31m": torch.ones(2) for n in range(9)}
    message = refuse(save_as("zip", tmp_path / "SUTRACK_ep0180.pth.tar", weights))
    assert "no RELO or SUTrack or DRLT weights: found 'encoder.body.block0\\x1b[31m'" in message


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({TOKENS: torch.ones(1, 3, 16)}, f"no known variant: found {TOKENS} of (1, 3, 16)"),
        ({HEAD: None}, f"weights missing: 1, the first '{HEAD}': found none, expected (1, 1, 1"),
        ({HEAD: torch.ones(7)}, f"of another shape: 1, the first '{HEAD}': found (7,), expected"),
        ({"more": torch.ones(3)}, "weights unexpected: 1, the first 'more': found (3,), expected"),
        ({HEAD: torch.full((1, 1, 1, 1), torch.nan)}, f"{HEAD} is not finite: found NaN"),
        ({HEAD: torch.full((1, 1, 1, 1), -torch.inf)}, f"{HEAD} is not finite: found Inf"),
        ({HEAD: torch.ones(1, 1, 1, 1, dtype=torch.int8)}, f"{HEAD}: found torch.int8, expected"),
    ],
)
def test_weights_that_do_not_fit_are_named(kind, changes, reason, tmp_path):
    assert reason in refuse(save_as(kind, tmp_path / "file", tiny_weights(**changes)))


@pytest.mark.parametrize("entry", [3, {"a": 1}, torch.ones(2).to_sparse(), torch.device("cpu")])
def test_a_spoiled_weight_is_named(entry, tmp_path):
    path = save_as("zip", tmp_path / "file", tiny_weights(**{HEAD: entry}))
    assert f"weight '{HEAD}' is spoiled" in refuse(path)


@pytest.fixture(scope="module")
def whole_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return {kind: save_as(kind, folder / kind, tiny_weights()) for kind in FORMATS}


def read_bytes(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            read_checkpoint(path)
        except CheckpointError as error:
            return str(error)
    return None


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from(FORMATS), cut=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_always_refused(whole_files, kind, cut):
    whole = whole_files[kind].read_bytes()
    assert "no readable checkpoint" in read_bytes(whole[: int(cut * len(whole))])


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(
    kind=st.sampled_from(FORMATS),
    flips=st.lists(st.tuples(st.floats(-1, 1), st.integers(1, 255)), min_size=1, max_size=4),
)
def test_a_flipped_byte_is_refused_or_harmless(whole_files, kind, flips):
    content = bytearray(whole_files[kind].read_bytes())
    for place, mask in flips:  # crowded at both ends, where headers and directories are
        position = int(abs(place) ** 3 * (len(content) - 1))
        content[position if place > 0 else -1 - position] ^= mask
    assert "\n" not in (read_bytes(bytes(content)) or "")


STARTS = [b"", b"PK\x03\x04", b"PK\x05\x06", b"\x80\x02", struct.pack("<Q", 9)]


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=100))
def test_noise_is_refused(start, rest):
    assert read_bytes(start + rest) is not None


def test_missing_packages_are_named(tmp_path, monkeypatch):
    path = save_as("zip", tmp_path / "file", tiny_weights())
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency) as caught:
        read_checkpoint(path)
    assert str(caught.value) == "torch is not installed; `pip install 'relo-edge[export]'`"


def test_importing_loads_nothing_heavy():
    code = "import sys, relo_edge.network.checkpoint as c; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
