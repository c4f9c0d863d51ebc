"""Checkpoint files: programs in pickles, bombs of time and memory, archives that lie, noise."""

from __future__ import annotations

import copy
import copyreg
import os
import pickle
import random
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from harness import Act, Attack
from torch.serialization import MAGIC_NUMBER

from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_demo_checkpoint

torch.set_num_threads(1)  # forks of a process whose pool has started would wait for it for ever

FORMATS = ("zip", "legacy")
FLIPS = 60
CUTS = 20
Prepare = Callable[[Path, Path], Act]


def list_attacks() -> Iterator[Attack]:
    """Every one of this kind."""
    for kind in FORMATS:
        for name, body in (*PROGRAMS.items(), *BOMBS.items()):
            yield Attack(f"{kind} {name}", _write_pickle(kind, body), must_fail=True)
        for name, call in CALLS.items():
            for place in ("whole", "net", "weight", "key", "deep"):
                for protocol in (2, 4, 5):
                    prepare = _write_call(kind, call, place, protocol)
                    yield Attack(f"{kind} {name} {place} {protocol}", prepare, must_fail=True)
        yield from _list_fuzz(kind)
    yield from _list_fuzz("safetensors")
    for name, write in {**ARCHIVES, **FILES}.items():
        yield Attack(name, _write_with(write), must_fail=True)


def _read(path: Path) -> Act:
    return lambda: read_checkpoint(path)


def _write_with(write: Callable[[Path], None]) -> Prepare:
    def prepare(folder: Path, _canary: Path) -> Act:
        path = folder / "weights.pth.tar"
        write(path)
        return _read(path)

    return prepare


# Programs: each makes the canary, once it is unpickled in earnest.


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.recipe = (function, arguments)

    def __reduce__(self) -> Any:
        return self.recipe

    __call__ = __reduce__


CALLS: dict[str, Callable[[str], Any]] = {
    "os.system": lambda canary: Call(os.system, f"touch {canary}"),
    "exec": lambda canary: Call(exec, f"open({canary!r}, 'w').close()"),
    "eval": lambda canary: Call(eval, f"open({canary!r}, 'w').close()"),
    "subprocess": lambda canary: Call(subprocess.call, ["touch", canary]),
    "getattr": lambda canary: Call(Call(getattr, Path(canary), "touch")),
    "torch.save": lambda canary: Call(torch.save, 1, canary),
}


def _write_call(kind: str, call: Callable[[str], Any], place: str, protocol: int) -> Prepare:
    def prepare(folder: Path, canary: Path) -> Act:
        hostile = call(str(canary))
        content: Any = {
            "whole": hostile,
            "net": {"net": hostile},
            "weight": {"net": {"encoder.body.ttokens": hostile}},
            "key": {"net": {hostile: torch.ones(1)}},
            "deep": {"net": {"a": [[(hostile,)]]}},
        }[place]
        path = folder / "weights.pth.tar"
        torch.save(
            content,
            path,
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=kind == "zip",
        )
        return _read(path)

    return prepare


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


MKDIR, LIST, MAP = b"cos\nmkdir\n", b"cbuiltins\nlist\n", b"cbuiltins\nmap\n"
NEW = b"ccopyreg\n__newobj__\n"
PROGRAMS = {
    "INST": b"(CANARYios\nmkdir\n",
    "OBJ": b"(" + MKDIR + b"CANARYo",
    "STACK_GLOBAL": _text("os") + _text("mkdir") + b"\x93CANARY\x85R",
    "NEWOBJ": LIST + MAP + MKDIR + b"](CANARYe\x86\x81\x85R",
    "copyreg": LIST + NEW + MAP + MKDIR + b"](CANARYe\x87R\x85R",
    "EXT1": b"\x82\xfaCANARY\x85R",
    "BUILD": b"cbuiltins\nobject\n)\x81}" + _text("__setstate__") + MKDIR + b"sb",
}
LONG = _text("A" * 20_000_000)
BOMBS = {
    "opcodes without end": b"N0" * 4_000_000 + b"}",
    "tuples in tuples": b")" + b"2\x86" * 4_000_000,
    "deep tuple as a key": b"})" + b"2\x86" * 5000 + b"Ns",
    "memo of a large index": b"}r\xff\xff\xff\xff",
    "memo fetched for ever": b"}" + b"q\x00h\x00" * 4_000_000,
    "marks": b"(" * 4_000_000 + b"}",
    "long names": LONG + b"q\x000" + b"h\x00h\x00\x93" * 2_000_000,
    "long keys": LONG + b"q\x000}" + b"h\x00Ns" * 1_000_000,
    "long storage": b"(" + b"N" * 400_000 + b"tq\x00" + b"h\x00Q0" * 500_000 + b"}",
    "long number": b"\x8b" + struct.pack("<i", 50_000_000) + b"\x7f" * 50_000_000,
    "digits": b"L" + b"9" * 1_000_000 + b"L\n",
    "promised bytes": b"\x8e" + struct.pack("<Q", 1 << 40) + b"x",
    "promised text": b"\x8d" + struct.pack("<Q", 1 << 62) + b"x",
    "promised frame": b"\x95" + struct.pack("<Q", 1 << 62) + b"}",
    "many entries": b"}(" + b"".join(_text(f"k{n}") + b"N" for n in range(250_000)) + b"u",
}


def _write_pickle(kind: str, body: bytes) -> Prepare:
    def prepare(folder: Path, canary: Path) -> Act:
        copyreg._inverted_registry[0xFA] = ("os", "mkdir")  # type: ignore[attr-defined]
        path = folder / "weights.pth.tar"
        write_file(path, kind, body.replace(b"CANARY", _text(str(canary))))
        return _read(path)

    return prepare


def write_file(path: Path, kind: str, body: bytes) -> None:
    """A file in torch's format around any pickle."""
    pickled = b"\x80\x04" + body + b"."
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickled)
            archive.writestr("archive/data/0", bytes(24))
    else:
        head = b"".join(pickle.dumps(value, 2) for value in (MAGIC_NUMBER, 1001, {}))
        tail = pickle.dumps(["0"], 2) + struct.pack("<q", 6) + bytes(24)
        path.write_bytes(head + pickled + tail)


# Noise in files that are whole otherwise.


@lru_cache(maxsize=3)
def make_whole(kind: str) -> bytes:
    """The built-in weights in that format."""
    source = find_demo_checkpoint()
    if kind == "safetensors":
        return source.read_bytes()
    path = source.with_name(f".{os.getpid()}.pth")
    weights = read_checkpoint(source).weights
    try:
        torch.save({"net": weights}, path, _use_new_zipfile_serialization=kind == "zip")
        return path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def _list_fuzz(kind: str) -> Iterator[Attack]:
    for seed in range(FLIPS):
        yield Attack(f"{kind} flipped {seed}", _fuzz(kind, seed, cut=False))
    for seed in range(CUTS):
        yield Attack(f"{kind} cut {seed}", _fuzz(kind, seed, cut=True), must_fail=True)


def _fuzz(kind: str, seed: int, *, cut: bool) -> Prepare:
    def write(path: Path) -> None:
        draw, content = random.Random(seed), bytearray(make_whole(kind))
        if cut:
            del content[int(len(content) * draw.random()) :]
        for _ in range(0 if cut else draw.randint(1, 8)):
            # Crowded at both ends, where headers and directories are.
            place = int(draw.random() ** 4 * (len(content) - 1))
            content[place if draw.random() < 0.5 else -1 - place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)

    return _write_with(write)


# Archives and files that are something else.


def _repeat_entry(count: int) -> Callable[[Path], None]:
    """A directory whose entries all lead to the same bytes."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
            first = archive.infolist()[0]
            for number in range(count):
                info = copy.copy(first)
                info.filename = f"archive/data/{number}"
                archive.filelist.append(info)

    return write


def _deflated(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + b"N0" * 50_000_000 + b"}.")


def _script(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/constants.pkl", b"\x80\x02).")


def _climb(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../canary", b"x")
        archive.writestr("/etc/data.pkl", b"\x80\x02}.")


def _name_controls(path: Path) -> None:
    names = {f"encoder.\x1b]0;owned\x07{n}": torch.ones(1) for n in range(5)}
    torch.save({"net": names}, path)


def _claim_header(size: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(size.to_bytes(8, "little") + b"{")
            file.truncate(1 << 36)

    return write


def _expand(path: Path) -> None:
    weights = dict(read_checkpoint(find_demo_checkpoint()).weights)
    huge = torch.ones(1).expand(1 << 20, 1 << 20)
    torch.save({"net": weights | {"encoder.body.ttokens": huge}}, path)


ARCHIVES = {
    "zip entries that overlap": _repeat_entry(1000),
    "zip of many entries": _repeat_entry(300_000),
    "zip deflated": _deflated,
    "zip of TorchScript": _script,
    "zip that climbs": _climb,
}
FILES: dict[str, Callable[[Path], None]] = {
    "names for the terminal": _name_controls,
    "expanded tensor": _expand,
    "safetensors header of 64 GB": _claim_header(1 << 36),
    "safetensors header of 10 MB": _claim_header(10_000_000),
    "safetensors header without end": _claim_header((1 << 64) - 1),
    "FIFO": lambda path: os.mkfifo(path),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path),
    "empty": lambda path: path.touch(),
    "a terabyte of nothing": lambda path: os.truncate(
        os.open(path, os.O_CREAT | os.O_RDWR), 1 << 40
    ),
    "the start of a zip": lambda path: path.write_bytes(b"PK\x03\x04") and None,
    "the end of a zip": lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)) and None,
}
