"""Reading numbers from a file that is damaged, hostile, or changed at that very moment."""

import os
import time
import tracemalloc

import pytest
import torch
from safetensors.torch import save_file

from relo_edge.errors import CheckpointError
from relo_edge.network import checkpoint, stored_tensors
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.network.safetensors_file import list_safetensors
from relo_edge.network.stored_tensors import FileBytes, open_window


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "demo.safetensors"
    path.write_bytes(find_demo_checkpoint().read_bytes())
    return path


@pytest.fixture
def zipped(tmp_path):
    path = tmp_path / "demo.pth.tar"
    torch.save({"net": read_checkpoint(find_demo_checkpoint()).weights}, path)
    return path


def strike_after_header(monkeypatch, strike):
    """Do something to the file once its names have been read, before its numbers are."""
    check = checkpoint._check_layout

    def check_and_strike(*arguments):
        check(*arguments)
        strike()

    monkeypatch.setattr(checkpoint, "_check_layout", check_and_strike)


@pytest.mark.parametrize("kind", ["weights", "zipped"])
def test_a_file_cut_short_while_it_is_read_is_one_line(monkeypatch, request, kind):
    path = request.getfixturevalue(kind)
    strike_after_header(monkeypatch, lambda: os.truncate(path, path.stat().st_size // 2))
    with pytest.raises(CheckpointError, match="was (cut short|changed) while it was read"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["weights", "zipped"])
def test_a_file_replaced_while_it_is_read_is_one_line(monkeypatch, request, tmp_path, kind):
    path = request.getfixturevalue(kind)
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes())
    strike_after_header(monkeypatch, lambda: other.replace(path))
    with pytest.raises(CheckpointError, match="was changed while it was read"):
        read_checkpoint(path)


def test_a_bundle_never_names_another_file_than_its_weights_are_from(weights):
    read = read_checkpoint(weights)
    time.sleep(0.01)
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(CheckpointError, match="was changed after it was read; run this again"):
        read.sha256  # noqa: B018


def test_a_fifo_and_a_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((tmp_path / "fifo", "a FIFO"), ("/dev/zero", "a device")):
        with pytest.raises(checkpoint.InputError, match=f"found {kind}"):
            read_checkpoint(path)


def test_a_stream_gives_up_after_what_any_weights_need(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_tensors, "LARGEST_PICKLE", 1000)
    path = tmp_path / "file"
    path.write_bytes(bytes(5000))
    with FileBytes(path) as data:
        stream = open_window(data, 10, 5000)
        assert (len(stream.read(1 << 30)), stream.tell()) == (1000, 1010)


def test_no_file_is_taken_many_times_over(tmp_path, monkeypatch):
    monkeypatch.setattr(stored_tensors, "LARGEST_PICKLE", 0)
    path = tmp_path / "file"
    path.write_bytes(bytes(100))
    with FileBytes(path) as data:
        for _ in range(8):
            data.read(0, 100)
        with pytest.raises(ValueError, match="many times over"):
            data.read(0, 100)


DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"]


def test_safetensors_come_out_as_the_library_reads_them(tmp_path):
    saved = {name: torch.randn(3, 4).mul(50).to(getattr(torch, name)) for name in DTYPES}
    saved |= {"bool": torch.randn(7) > 0, "scalar": torch.tensor(3.0), "cube": torch.randn(2, 3, 4)}
    save_file(saved, tmp_path / "file", metadata={"format": "pt"})
    with FileBytes(tmp_path / "file") as data:
        read = list_safetensors(data)
        assert set(read) == set(saved)
        for name, tensor in saved.items():
            assert read[name].read().dtype == tensor.dtype
            assert torch.equal(read[name].read(), tensor)


def write_header(path, header, numbers=bytes(8)):
    path.write_bytes(len(header).to_bytes(8, "little") + header + numbers)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
        b'"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}',
        b'{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":' + b"[" * 5000 + b"}",
        b'{"a":7}',
        b"[]",
        b"{",
        b"\xff{",
    ],
    ids=range(13),
)
def test_a_header_that_lies_is_refused(tmp_path, header):
    path = write_header(tmp_path / "file", header)
    with FileBytes(path) as data, pytest.raises(ValueError, match="damaged"):
        list_safetensors(data)


def test_a_header_larger_than_any_is_not_read(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write((1 << 33).to_bytes(8, "little") + b"{")
        file.truncate(1 << 34)
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    tracemalloc.stop()
