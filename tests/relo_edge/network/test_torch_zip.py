"""torch's zip archives: a checksum that differs, or records that share bytes, are never weights."""

import random
import struct
import zipfile

import pytest
import torch

from relo_edge.network import torch_zip
from relo_edge.network.inert_pickle import read_torch_file
from relo_edge.network.stored_tensors import FileBytes
from relo_edge.network.torch_zip import list_records


def read(path):
    with FileBytes(path) as data:
        return read_torch_file(data)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "file"
    torch.save({"a": torch.randn(50), "b": torch.randn(20)}, path)
    return path


def test_every_record_has_its_place(saved):
    with FileBytes(saved) as data, zipfile.ZipFile(saved) as archive:
        places = list_records(data)
        assert list(places) == archive.namelist()
        for name, place in places.items():
            assert data.read(*place) == archive.read(name)


def test_one_flipped_bit_in_any_record_is_refused(saved):
    whole = saved.read_bytes()
    with FileBytes(saved) as data:
        places = list_records(data)
    draw = random.Random(0)
    for name, (start, end) in places.items():
        for _ in range(6):
            content = bytearray(whole)
            content[draw.randrange(start, end)] ^= 1 << draw.randrange(8)
            saved.write_bytes(content)
            with pytest.raises(ValueError, match=f"a damaged record '{name}', its checksum"):
                read(saved)


def write_raw(path, entries, version=20):
    """A zip whose directory says whatever `entries` say: name, offset, size and CRC of each."""
    body = bytearray(b"PK\x03\x04" + struct.pack("<5H3I2H", 20, 0, 0, 0, 0, 0, 4, 4, 1, 0) + b"a")
    body += b"\x80\x02}."
    start = len(body)
    for name, offset, size, crc in entries:
        fields = (20, version, 0, 0, 0, 0, crc, size, size, len(name), 0, 0, 0, 0, 0, offset)
        body += b"PK\x01\x02" + struct.pack("<6H3I5H2I", *fields) + name.encode()
    count, size = len(entries), len(body) - start
    body += b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, count, count, size, start, 0)
    path.write_bytes(body)
    return path


CRC = torch_zip.zlib.crc32(b"\x80\x02}.")


def test_records_that_do_not_are_read(tmp_path):
    assert read(write_raw(tmp_path / "file", [("x/data.pkl", 0, 4, CRC)])) == {}


@pytest.mark.parametrize(
    "entries",
    [
        [("x/data.pkl", 0, 4, CRC), ("x/data/0", 0, 4, CRC)],
        [("x/data.pkl", 0, 4, CRC), ("x/data.pkl", 0, 4, CRC)],
        [("x/data.pkl", 0, 60, CRC)],
    ],
    ids=["same bytes", "same name", "into the directory"],
)
def test_records_that_overlap_are_refused(tmp_path, entries):
    with pytest.raises(ValueError, match="overlap"):
        read(write_raw(tmp_path / "file", entries))


def test_a_format_newer_than_zipfile_knows_is_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="damaged"):
        read(write_raw(tmp_path / "file", [("x/data.pkl", 0, 4, CRC)], version=99))


def test_a_directory_of_millions_of_entries_is_not_read(tmp_path, monkeypatch):
    path = write_raw(tmp_path / "file", [("x" * 60_000, 0, 4, CRC)] * 100)
    monkeypatch.setattr(zipfile, "ZipInfo", lambda *_: pytest.fail("something is made of it"))
    with pytest.raises(ValueError, match="too many entries"):
        read(path)


def test_a_directory_of_any_length_that_is_told_is_not_read(tmp_path):
    """4 GiB are what a zip64 archive says in its plain end record; without one they are a claim."""
    path = write_raw(tmp_path / "file", [("x/data.pkl", 0, 4, CRC)])
    body = bytearray(path.read_bytes())
    body[-10:-6] = b"\xff" * 4
    path.write_bytes(body)
    with pytest.raises(ValueError, match="damaged"):
        read(path)
    with path.open("r+b") as file:  # sparse: as long as it claims to be
        file.truncate(1 << 32)
        file.seek(0, 2)
        file.write(body[-22:])
    with pytest.raises(ValueError, match="too many entries"):
        read(path)


@pytest.mark.parametrize("signature", [b"PK\5\6", b"PK\6\6", b"PK\6\7"])
def test_weights_may_hold_an_end_records_signature(tmp_path, signature):
    """By chance one file in some ten thousand does, among its last bytes."""
    path = tmp_path / "file"
    stray = torch.frombuffer(bytearray(signature + b"\xee" * 60), dtype=torch.uint8)
    torch.save({"a": stray}, path)
    assert signature + b"\xee" * 60 in path.read_bytes()[-(1 << 16) :]
    with FileBytes(path) as data:
        assert read_torch_file(data)["a"].read().equal(stray)
