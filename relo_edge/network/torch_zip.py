"""The zip archives that torch writes: every record in its own place, and what its checksum says."""

from __future__ import annotations

import struct
import zipfile
import zlib
from typing import IO, BinaryIO, cast

from relo_edge.network.stored_tensors import DAMAGED, FileBytes

__all__ = ["list_records"]

LARGEST_DIRECTORY = 4 << 20  # a release file's is a fiftieth
CHUNK = 1 << 20


def list_records(data: FileBytes) -> dict[str, tuple[int, int]]:
    """Where each record starts and ends; ValueError where one is damaged or lies in another."""
    try:
        with zipfile.ZipFile(cast(IO[bytes], _ArchiveFile(data.file))) as archive:
            entries = sorted(archive.infolist(), key=lambda info: info.header_offset)
            limit = archive.start_dir
    except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter: of an unknown version
        raise ValueError(DAMAGED) from error
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


class _ArchiveFile:
    """The file as zipfile reads it, which takes the directory in one read, as long as it is said
    to be: one of millions of entries would take long to be made something of."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._read = file.seek, file.tell, file.read

    def read(self, size: int = -1) -> bytes:
        if size > LARGEST_DIRECTORY:
            raise ValueError("a zip archive of too many entries")
        return self._read(size)


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
