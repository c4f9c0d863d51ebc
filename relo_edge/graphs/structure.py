"""What an ONNX file is made of, read without any package: no loops, no data in other files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from relo_edge.errors import BundleError
from relo_edge.host.files import open_regular

__all__ = ["check_structure"]

CONTROL_FLOW = {b"If", b"Loop", b"Scan", b"SequenceMap"}
"""What makes a graph's run time depend on what is in it; no tracker has any."""
DOMAINS = {b"", b"ai.onnx", b"com.microsoft"}
LONGEST_NAME = 1 << 12

# Field numbers of ONNX's protobuf messages that lead to nodes and to tensors.
MODEL_GRAPH, MODEL_FUNCTION = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, FUNCTION_NODE = 1, 5, 7
NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
TENSOR_LOCATION = 14

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

ACCEPTED: set[str] = set()
"""Hashes of what this process has looked through: the same content need not be again."""

Field = tuple[int, int, int]
"""Its number, then where its content starts and ends; for a plain number, its value twice."""


def check_structure(path: Path, digest: str) -> None:
    """Refuse a graph that could run for ever, read other files, or needs code of its own.

    Args:
        path: an ONNX file.
        digest: its content's hash.

    Raises:
        BundleError: it has control flow, operators that ONNX does not know, or data in other
            files; or it is no ONNX at all.
    """
    if digest in ACCEPTED:
        return
    try:
        with open_regular(path) as file:
            _check_model(file)
        ACCEPTED.add(digest)
    except (ValueError, OSError) as error:
        fix = "export the checkpoint again"
        raise BundleError(f"graph {path} is not accepted", found=error, fix=fix) from None


def _check_model(file: BinaryIO) -> None:
    end = file.seek(0, 2)
    for number, start, stop in _list_fields(file, 0, end):
        if number == MODEL_GRAPH:
            _check_graph(file, start, stop)
        elif number == MODEL_FUNCTION:
            for inner, first, last in _list_fields(file, start, stop):
                if inner == FUNCTION_NODE:
                    _check_node(file, first, last)


def _check_graph(file: BinaryIO, start: int, stop: int) -> None:
    for number, first, last in _list_fields(file, start, stop):
        if number == GRAPH_NODE:
            _check_node(file, first, last)
        elif number == GRAPH_INITIALIZER:
            _check_tensor(file, first, last)


def _check_node(file: BinaryIO, start: int, stop: int) -> None:
    for number, first, last in _list_fields(file, start, stop):
        if number in (NODE_OPERATOR, NODE_DOMAIN):
            name = _read_name(file, first, last)
            if number == NODE_OPERATOR and name in CONTROL_FLOW:
                raise ValueError(f"the operator {name.decode()}, which can run for ever")
            if number == NODE_DOMAIN and name not in DOMAINS:
                raise ValueError(f"operators of {ascii(name.decode(errors='replace'))[:80]}")
        elif number == NODE_ATTRIBUTE:
            for inner, begin, end in _list_fields(file, first, last):
                if inner in ATTRIBUTE_TENSORS:
                    _check_tensor(file, begin, end)
                elif inner in ATTRIBUTE_GRAPHS:
                    raise ValueError("a graph within a graph")


def _check_tensor(file: BinaryIO, start: int, stop: int) -> None:
    for number, value, _ in _list_fields(file, start, stop):
        if number == TENSOR_LOCATION and value:
            raise ValueError("weights in another file")


def _list_fields(file: BinaryIO, start: int, stop: int) -> Iterator[Field]:
    """The fields of one message; what is between is skipped, not read."""
    while start < stop:
        file.seek(start)
        tag, start = _read_varint(file, start)
        kind, number = tag & 7, tag >> 3
        if kind == VARINT:
            value, start = _read_varint(file, start)
            yield number, value, value
        elif kind == BYTES:
            size, first = _read_varint(file, start)
            start = first + size
            if start > stop:
                raise ValueError("a truncated or damaged file")
            yield number, first, start
        elif kind in (FIXED32, FIXED64):
            start += 4 if kind == FIXED32 else 8
        else:
            raise ValueError("something else than ONNX")
    if start != stop:
        raise ValueError("a truncated or damaged file")


def _read_varint(file: BinaryIO, start: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for index in range(10):
        byte = file.read(1)
        if not byte:
            raise ValueError("a truncated or damaged file")
        value |= (byte[0] & 0x7F) << (7 * index)
        if byte[0] < 0x80:
            return value & (1 << 64) - 1, start + index + 1
    raise ValueError("something else than ONNX")


def _read_name(file: BinaryIO, start: int, stop: int) -> bytes:
    if stop - start > LONGEST_NAME:
        raise ValueError("a name of more characters than any operator has")
    file.seek(start)
    return file.read(stop - start)
