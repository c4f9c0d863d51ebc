"""Nothing in a pickle ever runs, whatever its bytes; honest tensors beside it come out exactly."""

import builtins
import copyreg
import functools
import os
import pickle
import struct
import subprocess
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relo_edge.network import inert_pickle
from relo_edge.network.inert_pickle import Inert, StoredTensor, read_torch_file

FORMATS = ("zip", "legacy")
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
WEIGHT = torch.arange(6.0).reshape(2, 3)


class Call:
    """Pickles as a call, of a function or of what another call returns."""

    def __init__(self, function, *arguments):
        self.recipe = (function, arguments)

    def __call__(self):
        raise AssertionError("only its pickle is wanted")

    def __reduce__(self):
        return self.recipe


# Each makes the file it is given, once it is unpickled in earnest.
BOMBS = {
    "os.system": lambda canary: Call(os.system, f"touch {canary}"),
    "exec": lambda canary: Call(builtins.exec, f"open({canary!r}, 'w').close()"),
    "eval": lambda canary: Call(builtins.eval, f"open({canary!r}, 'w').close()"),
    "open": lambda canary: Call(builtins.open, canary, "w"),
    "subprocess": lambda canary: Call(subprocess.call, ["touch", canary]),
    "partial": lambda canary: Call(functools.partial(os.mkdir, canary)),
    "getattr": lambda canary: Call(Call(getattr, Path(canary), "touch")),
    "iterator": lambda canary: Call(list, Call(map, os.mkdir, [canary])),
    "torch": lambda canary: Call(torch.save, 1, canary),
}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


MKDIR, LIST, MAP = b"cos\nmkdir\n", b"cbuiltins\nlist\n", b"cbuiltins\nmap\n"
NEW = b"ccopyreg\n__newobj__\n"
# The same by opcodes that Python's pickler does not write by itself, around the file's name.
RAW_BOMBS = {
    "INST": (b"(", b"ios\nmkdir\n"),
    "OBJ": (b"(" + MKDIR, b"o"),
    "STACK_GLOBAL": (text("os") + text("mkdir") + b"\x93", b"\x85R"),
    "NEWOBJ": (LIST + MAP + MKDIR + b"](", b"e\x86\x81\x85R"),
    "copyreg": (LIST + NEW + MAP + MKDIR + b"](", b"e\x87R\x85R"),
    "EXT1": (b"\x82\xfa", b"\x85R"),
    "memo": (MKDIR + b"p9\n0", b"\x85q\x070g9\nh\x07R"),
    "DUP and POP": (MKDIR, b"\x8520R"),
}
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06"
PIDS = {"zip": STORAGE + b"tQ", "legacy": STORAGE + b"NtQ"}


def tensor_pickle(kind: str, offset=b"K\x00", shape=b"K\x02K\x03\x86", stride=b"K\x03K\x01\x86"):
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (PIDS[kind] + offset + shape + stride)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def save(content, path, kind, **options):
    torch.save(content, path, _use_new_zipfile_serialization=kind == "zip", **options)


def write_file(path, kind, body):
    """A file in torch's format around any pickle; storage 0 holds six float32 numbers."""
    pickled, numbers = b"\x80\x04" + body + b".", WEIGHT.numpy().tobytes()
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/data/0", numbers)
    else:
        head = b"".join(pickle.dumps(value, 2) for value in (LEGACY_MAGIC, 1001, {}))
        tail = pickle.dumps(["0"], 2) + struct.pack("<q", 6) + numbers
        path.write_bytes(head + pickled + tail)
    return path


@pytest.mark.parametrize("name", BOMBS)
def test_the_bombs_are_live(name, tmp_path):
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(BOMBS[name](str(canary)), 2))
    assert canary.exists()


WRAPS = [
    lambda inner: [inner],
    lambda inner: {"key": inner},
    lambda inner: (1, inner),
    lambda inner: Call(os.mkdir, inner),
    lambda inner: Call(torch.nn.Parameter, inner),
]


@settings(deadline=None, max_examples=300)
@given(
    bomb=st.sampled_from(sorted(BOMBS)),
    wraps=st.lists(st.sampled_from(WRAPS), max_size=4),
    place=st.sampled_from(["settings", "net", "weight"]),
    kind=st.sampled_from(FORMATS),
    protocol=st.integers(2, 5),
)
def test_no_bomb_goes_off(bomb, wraps, place, kind, protocol):
    with tempfile.TemporaryDirectory() as folder:
        canary, path = Path(folder) / "canary", Path(folder) / "file"
        hostile = functools.reduce(lambda inner, wrap: wrap(inner), wraps, BOMBS[bomb](str(canary)))
        content = {"first": WEIGHT, "net": {"weight": WEIGHT}, "last": WEIGHT}
        content |= {"net": {"weight": hostile}} if place == "weight" else {place: hostile}
        save(content, path, kind, pickle_protocol=protocol)
        read = read_torch_file(path)
        assert not canary.exists()
        assert torch.equal(read["first"].read(), WEIGHT)
        assert torch.equal(read["last"].read(), WEIGHT)
        assert place != "weight" or not isinstance(read["net"]["weight"], StoredTensor)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", RAW_BOMBS)
def test_no_opcode_calls_anything(name, kind, tmp_path, monkeypatch):
    monkeypatch.setitem(copyreg._inverted_registry, 0xFA, ("os", "mkdir"))
    before, after = RAW_BOMBS[name]
    live, canary = tmp_path / "live", tmp_path / "canary"
    pickle.loads(b"\x80\x04" + before + text(str(live)) + after + b".")
    assert live.exists()
    bomb = before + text(str(canary)) + after
    entries = text("settings") + bomb + text("weight") + tensor_pickle(kind)
    read = read_torch_file(write_file(tmp_path / "file", kind, b"}(" + entries + b"u"))
    assert not canary.exists()
    assert torch.equal(read["weight"].read(), WEIGHT)


def test_no_source_patch_is_written(tmp_path):
    """torch.load would: BUILD names the allowed function, and a module's source then differs."""
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    named = b"}" + text("__name__") + text(str(tmp_path / "canary")) + b"s"
    state = b"}" + text("dump_patches") + b"\x88s" + named + b"\x86b"
    module = b"(" + text("module") + function + state + text("a.py") + text("source") + b"tQ"
    body = b"](" + module + tensor_pickle("legacy") + b"e"
    path = write_file(tmp_path / "file", "legacy", body)
    assert torch.equal(read_torch_file(path)[1].read(), WEIGHT)
    assert list(tmp_path.iterdir()) == [path]
    assert torch._utils._rebuild_tensor_v2.__name__ == "_rebuild_tensor_v2"


@pytest.mark.parametrize("kind", FORMATS)
def test_tensors_come_out_as_torch_reads_them(kind, tmp_path):
    base = torch.randn(4, 6, dtype=torch.float64)
    types = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"]
    saved = {name: base.mul(50).to(getattr(torch, name)) for name in [*types, "uint8", "bool"]}
    saved |= {
        "transposed": base.T,
        "view": base[1:, ::2],
        "expanded": torch.ones(1).expand(3, 4),
        "scalar": torch.tensor(3),
        "parameter": torch.nn.Parameter(torch.randn(3)),
    }
    norm = torch.nn.BatchNorm1d(3).state_dict()
    save({"net": saved, "norm": norm}, tmp_path / "file", kind)
    content = read_torch_file(tmp_path / "file")
    assert list(content["norm"]) == list(norm)
    read = content["net"]
    assert list(read) == list(saved)
    for name, tensor in saved.items():
        assert read[name].shape == tensor.shape
        assert read[name].read().dtype == tensor.dtype
        assert torch.equal(read[name].read(), tensor), name


def test_a_stranger_is_known_by_name_only(tmp_path):
    torch.save([torch.nn.Linear(2, 2), torch.device("cpu")], tmp_path / "file")
    strangers = [Inert("torch.nn.modules.linear.Linear"), Inert("torch.device")]
    assert read_torch_file(tmp_path / "file") == strangers


LIES = [
    ("offset", b"K\x01"),
    ("offset", b"J\xff\xff\xff\xff"),
    ("shape", b"K\x02K\x04\x86"),
    ("shape", b"K\x00K\x03\x86"),
    ("shape", b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"),
    ("shape", b"\x8a\x09" + b"\xff" * 8 + b"\x00K\x01\x86"),
    ("shape", b"NN\x86"),
    ("shape", b"N"),
    ("stride", b"K\x04K\x01\x86"),
    ("stride", b"J\xff\xff\xff\xffK\x01\x86"),
    ("stride", b"K\x01\x85"),
]


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_tensor_beyond_its_storage_is_refused(kind, lie, tmp_path):
    read = read_torch_file(write_file(tmp_path / "file", kind, tensor_pickle(kind, **dict([lie]))))
    if isinstance(read, StoredTensor):
        with pytest.raises(ValueError, match="storage does not hold"):
            read.read()
    else:
        assert read == Inert("torch._utils._rebuild_tensor_v2")


GREEDY = {
    "memo": b"}r\xff\xff\xff\xff",
    "bytearray": b"\x96\x00\x00\x00\x00\x00\x01\x00\x00a",
    "bytes": b"\x8e\x00\x00\x00\x00\x00\x01\x00\x00a",
    "long": b"\x8b\xff\xff\xff\x7fa",
    "hash": b"})" + b"2\x86" * 200 + b"Ns",
}


@pytest.mark.parametrize("greedy", GREEDY.values(), ids=GREEDY)
def test_a_short_pickle_takes_little(greedy, tmp_path):
    path = write_file(tmp_path / "file", "zip", greedy)
    tracemalloc.start()
    try:
        assert read_torch_file(path) == {}
    except ValueError as error:
        assert "truncated or damaged" in str(error)  # noqa: PT017
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_pickle_without_end_is_given_up(tmp_path, monkeypatch):
    path = write_file(tmp_path / "file", "zip", b"}0" * 50 + b"}")
    assert read_torch_file(path) == {}
    monkeypatch.setattr(inert_pickle, "OPCODE_LIMIT", 100)
    with pytest.raises(ValueError, match="damaged"):
        read_torch_file(path)


OPCODES = [bytes([code]) for code in b"()}]tuasReb0213NQqh\x81\x85\x86\x92\x93\x94"]
OPCODES += [b"K\x00", b"q\x00", b"h\x00", MKDIR, *PIDS.values()]


@settings(deadline=None, max_examples=300)
@given(
    kind=st.sampled_from(FORMATS),
    body=st.binary(max_size=30) | st.lists(st.sampled_from(OPCODES), max_size=30).map(b"".join),
)
def test_any_pickle_is_data_or_damaged(kind, body):
    with tempfile.TemporaryDirectory() as folder:
        path = write_file(Path(folder) / "file", kind, body)
        try:
            read_torch_file(path)
        except ValueError as error:
            assert str(error) == inert_pickle.DAMAGED  # noqa: PT017
        assert os.listdir(folder) == ["file"]


RECORDS = [
    ({"archive/data.pkl": b"}.", "archive/constants.pkl": b")."}, "TorchScript"),
    ({"archive/data.pkl": b"}.", "archive/byteorder": b"big"}, "big-endian"),
    ({"document.xml": b"<xml/>"}, "torch did not write"),
]


@pytest.mark.parametrize(("records", "reason"), RECORDS)
def test_other_archives_are_refused(records, reason, tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    with pytest.raises(ValueError, match=reason):
        read_torch_file(tmp_path / "file")


def test_a_compressed_archive_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "file", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"}.")
    with pytest.raises(ValueError, match="compressed"):
        read_torch_file(tmp_path / "file")


def test_other_pickles_are_refused(tmp_path):
    (tmp_path / "file").write_bytes(pickle.dumps({"net": 1}))
    with pytest.raises(ValueError, match="torch did not write"):
        read_torch_file(tmp_path / "file")
