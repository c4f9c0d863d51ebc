"""Nothing in a pickle ever runs, whatever its bytes; honest tensors beside it come out exactly."""

import copyreg
import os
import pickle
import struct
import subprocess
import tempfile
import tracemalloc
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.serialization import MAGIC_NUMBER

from relo_edge.network import inert_pickle
from relo_edge.network.inert_pickle import Inert
from relo_edge.network.stored_tensors import FileBytes, StoredTensor

FORMATS = ("zip", "legacy")


def read_torch_file(path):
    """The file's content; it stays open for tensors that are read later."""
    return inert_pickle.read_torch_file(FileBytes(path))


WEIGHT = torch.arange(6.0).reshape(2, 3)


class Call:
    """Pickles as a call, of a function or of what another call returns."""

    def __init__(self, function, *arguments):
        self.recipe = (function, arguments)

    def __reduce__(self):
        return self.recipe

    __call__ = __reduce__  # pickle insists that a callee can be called


# Each makes the file it is given, once it is unpickled in earnest.
BOMBS = {
    "os.system": lambda canary: Call(os.system, f"touch {canary}"),
    "exec": lambda canary: Call(exec, f"open({canary!r}, 'w').close()"),
    "eval": lambda canary: Call(eval, f"open({canary!r}, 'w').close()"),
    "subprocess": lambda canary: Call(subprocess.call, ["touch", canary]),
    "getattr": lambda canary: Call(Call(getattr, Path(canary), "touch")),
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
}
STORAGE = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x06"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
PIDS = {"zip": STORAGE + b"tQ", "legacy": STORAGE + b"NtQ"}


def tensor_pickle(kind: str, offset=b"K\x00", shape=b"K\x02K\x03\x86", stride=b"K\x03K\x01\x86"):
    view = PIDS[kind] + offset + shape + stride
    return REBUILD + b"(" + view + b"\x89ccollections\nOrderedDict\n)RtR"


def write_file(path, kind, body, method=zipfile.ZIP_STORED, **records):
    """A file in torch's format around any pickle; storage 0 holds six float32 numbers."""
    pickled, numbers = b"\x80\x04" + body + b".", WEIGHT.numpy().tobytes()
    if kind == "zip":
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, record in ({"data.pkl": pickled, "data/0": numbers} | records).items():
                archive.writestr(f"archive/{name}", record)
    else:
        head = b"".join(pickle.dumps(value, 2) for value in (MAGIC_NUMBER, 1001, {}))
        tail = pickle.dumps(["0"], 2) + struct.pack("<q", 6) + numbers
        path.write_bytes(head + pickled + tail)
    return path


@pytest.mark.parametrize("name", BOMBS)
def test_the_bombs_are_live(name, tmp_path):
    pickle.loads(pickle.dumps(BOMBS[name](str(tmp_path / "canary")), 2))
    assert (tmp_path / "canary").exists()


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    bomb=st.sampled_from(sorted(BOMBS)),
    depth=st.integers(0, 4),
    place=st.sampled_from(["settings", "net", "weight"]),
    zipped=st.booleans(),
    protocol=st.integers(2, 5),
)
def test_no_bomb_goes_off(bomb, depth, place, zipped, protocol):
    with tempfile.TemporaryDirectory() as folder:
        canary, path = Path(folder) / "canary", Path(folder) / "file"
        hostile = BOMBS[bomb](str(canary))
        for _ in range(depth):
            hostile = [{"key": (1, Call(os.mkdir, hostile))}]
        content = {"first": WEIGHT, "net": {"weight": WEIGHT}, "last": WEIGHT}
        content |= {"net": {"weight": hostile}} if place == "weight" else {place: hostile}
        torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
        read = read_torch_file(path)
        assert not canary.exists()
        assert all(torch.equal(read[name].read(), WEIGHT) for name in ("first", "last"))


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(("before", "after"), RAW_BOMBS.values(), ids=RAW_BOMBS)
def test_no_opcode_calls_anything(before, after, kind, tmp_path, monkeypatch):
    monkeypatch.setitem(copyreg._inverted_registry, 0xFA, ("os", "mkdir"))
    live, canary = tmp_path / "live", tmp_path / "canary"
    pickle.loads(b"\x80\x04" + before + text(str(live)) + after + b".")
    assert live.exists()
    body = b"](" + before + text(str(canary)) + after + tensor_pickle(kind) + b"e"
    _, weight = read_torch_file(write_file(tmp_path / "file", kind, body))
    assert not canary.exists()
    assert torch.equal(weight.read(), WEIGHT)


def test_no_source_patch_is_written(tmp_path):
    """torch.load would: BUILD names the allowed function, and a module's source then differs."""
    named = b"}" + text("__name__") + text(str(tmp_path / "canary")) + b"s"
    state = b"}" + text("dump_patches") + b"\x88s" + named + b"\x86b"
    module = b"(" + text("module") + REBUILD + state + text("a.py") + text("source") + b"tQ"
    path = tmp_path / "file"
    write_file(path, "legacy", b"](" + module + tensor_pickle("legacy") + b"e")
    assert torch.equal(read_torch_file(path)[1].read(), WEIGHT)
    assert list(tmp_path.iterdir()) == [path]
    assert torch._utils._rebuild_tensor_v2.__name__ == "_rebuild_tensor_v2"


@pytest.mark.parametrize("kind", FORMATS)
def test_tensors_come_out_as_torch_reads_them(kind, tmp_path):
    base = torch.randn(4, 6, dtype=torch.float64)
    types = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8"]
    saved = {name: base.mul(50).to(getattr(torch, name)) for name in [*types, "uint8", "bool"]}
    saved |= {"transposed": base.T, "view": base[1:, ::2], "expanded": base[:1].expand(3, 6)}
    saved |= {"scalar": torch.tensor(3), "parameter": torch.nn.Parameter(torch.randn(3))}
    torch.save(saved, tmp_path / "file", _use_new_zipfile_serialization=kind == "zip")
    read = read_torch_file(tmp_path / "file")
    assert list(read) == list(saved)
    for name, tensor in saved.items():
        assert read[name].shape == tensor.shape
        assert read[name].read().dtype == tensor.dtype
        assert torch.equal(read[name].read(), tensor), name


def test_strangers_are_known_by_name_only(tmp_path):
    torch.save([torch.nn.Linear(2, 2), torch.device("cpu")], tmp_path / "file")
    names = ["torch.nn.modules.linear.Linear", "torch.device"]
    assert read_torch_file(tmp_path / "file") == [Inert(name) for name in names]


@pytest.mark.parametrize(
    "lie",
    [
        {"offset": b"K\x01"},
        {"shape": b"K\x02K\x04\x86"},
        {"shape": b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86"},
        {"shape": b"NN\x86"},
        {"stride": b"K\x04K\x01\x86"},
        {"stride": b"K\x01\x85"},
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_tensor_beyond_its_storage_is_refused(kind, lie, tmp_path):
    read = read_torch_file(write_file(tmp_path / "file", kind, tensor_pickle(kind, **lie)))
    if isinstance(read, StoredTensor):
        with pytest.raises(ValueError, match="storage does not hold"):
            read.read()
    else:
        assert read == Inert("torch._utils._rebuild_tensor_v2")


@pytest.mark.parametrize(
    "greedy",
    [
        b"}r\xff\xff\xff\xff",
        b"})" + b"2\x86" * 200 + b"Ns",
    ],
    ids=["memo", "hash"],
)
def test_a_short_pickle_takes_little(greedy, tmp_path):
    path = write_file(tmp_path / "file", "zip", greedy)
    tracemalloc.start()
    with suppress(ValueError):
        assert read_torch_file(path) == {}
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("opcode", [b"\x8d", b"\x8e"], ids=["text", "bytes"])
def test_a_length_may_promise_more_than_any_memory(opcode, kind, tmp_path):
    path = write_file(tmp_path / "file", kind, opcode + struct.pack("<Q", 1 << 62) + b"x")
    with pytest.raises(ValueError, match="damaged"):
        read_torch_file(path)


def test_a_pickle_without_end_is_given_up(tmp_path, monkeypatch):
    path = write_file(tmp_path / "file", "zip", b"}0" * 50 + b"}")
    assert read_torch_file(path) == {}
    monkeypatch.setattr(inert_pickle, "OPCODE_LIMIT", 100)
    with pytest.raises(ValueError, match="damaged"):
        read_torch_file(path)


OPCODES = [bytes([code]) for code in b"()}]tuasReb0213NQ\x81\x85\x86\x92\x93\x94"]
OPCODES += [b"K\x00", b"q\x00", b"h\x00", MKDIR, *PIDS.values()]


@pytest.mark.slow
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
            assert str(error) == inert_pickle.DAMAGED
        assert list(Path(folder).iterdir()) == [path]


@pytest.mark.parametrize(
    ("records", "method", "reason"),
    [
        ({"constants.pkl": b"\x80\x02)."}, zipfile.ZIP_STORED, "TorchScript"),
        ({"byteorder": b"big"}, zipfile.ZIP_STORED, "big-endian"),
        ({}, zipfile.ZIP_DEFLATED, "compressed"),
    ],
)
def test_other_archives_are_refused(records, method, reason, tmp_path):
    path = write_file(tmp_path / "file", "zip", b"}", method, **records)
    with pytest.raises(ValueError, match=reason):
        read_torch_file(path)


@pytest.mark.parametrize(("view", "end"), [(b"N", -1), (b"K\x01", None)], ids=["cut", "view"])
def test_a_legacy_storage_must_be_whole(view, end, tmp_path):
    path = write_file(tmp_path / "file", "legacy", STORAGE + view + b"tQ")
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(ValueError, match="damaged"):
        read_torch_file(path)
