"""The zip archives that torch writes: every record in its own place, and what its checksum says."""

from __future__ import annotations

import struct
import zipfile
import zlib

from relo_edge.network.stored_tensors import DAMAGED, FileBytes

__all__ = ["list_records"]

LARGEST_DIRECTORY = 4 << 20  # a release file's is a fiftieth
FOOTER = 22 + 65536 + 20 + 56  # the end records, and the longest comment
CHUNK = 1 << 20
LARGEST_SIZES = {b"PK\x05\x06": (12, 4), b"PK\x06\x06": (40, 8)}
"""The two end records: where in each the directory's size stands, and in how many bytes."""


def list_records(data: FileBytes) -> dict[str, tuple[int, int]]:
    """Where each record starts and ends; ValueError where one is damaged or lies in another."""
    _check_directory(data)
    with zipfile.ZipFile(data.file) as archive:
        entries = sorted(archive.infolist(), key=lambda info: info.header_offset)
        limit = archive.start_dir
    places: dict[str, tuple[int, int]] = {}
    free = 0
    for info in entries:
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError("a compressed zip archive, which torch never writes")
        start, end = _locate(data, info)
        if info.header_offset < free or end > limit or info.filename in places:
            raise ValueError("a zip archive whose entries overlap")
        free = end
        if _sum_up(data, start, end) != info.CRC:
            raise ValueError(f"a damaged record {info.filename[:80]!a}, its checksum differs")
        places[info.filename] = start, end
    return places


def _check_directory(data: FileBytes) -> None:
    """Before anything is made of it: a directory of millions of entries takes long to read."""
    footer = data.read(max(0, data.size - FOOTER), data.size)
    for signature, (offset, width) in LARGEST_SIZES.items():
        place = footer.find(signature)
        while place >= 0:
            size = int.from_bytes(footer[place + offset : place + offset + width], "little")
            if LARGEST_DIRECTORY < size != (1 << 8 * width) - 1:
                raise ValueError("a zip archive of too many entries")
            place = footer.find(signature, place + 1)


def _locate(data: FileBytes, info: zipfile.ZipInfo) -> tuple[int, int]:
    header = data.read(info.header_offset, info.header_offset + 30)
    if not header.startswith(b"PK\x03\x04"):
        raise ValueError(DAMAGED)
    name_size, extra_size = struct.unpack_from("<HH", header, 26)
    start = info.header_offset + 30 + name_size + extra_size
    return start, start + info.file_size


def _sum_up(data: FileBytes, start: int, end: int) -> int:
    total = 0
    for place in range(start, end, CHUNK):
        total = zlib.crc32(data.read(place, min(place + CHUNK, end)), total)
    return total
