"""ONNX files written a weight at a time: the bytes of `onnx.save`, in less memory and time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from relo_edge.errors import InputError

if TYPE_CHECKING:
    from onnx import ModelProto

__all__ = ["LARGEST_FILE", "save_graph"]

LARGEST_FILE = 2**31 - 1
"""What protobuf reads back."""

DELIMITED = 2
"""The wire type of what is told by its length: messages, strings and bytes."""


def save_graph(model: ModelProto, path: Path) -> None:
    """Write the model; its weights are never in memory a second time.

    Raises:
        InputError: it is larger than one file can be.
    """
    head, _, tail = _split_message(model, "graph")
    before, _, after = _split_message(model.graph, "initializer")
    tensors = [_TensorBytes(tensor) for tensor in model.graph.initializer]
    starts = [_start_field(model.graph, "initializer", tensor.size) for tensor in tensors]
    size = len(before) + len(after) + sum(map(len, starts)) + sum(t.size for t in tensors)
    head += _start_field(model, "graph", size)
    if len(head) + size + len(tail) > LARGEST_FILE:
        raise InputError(f"graph {path.name}", found=f"{size} bytes", expected="less than 2 GiB")
    with path.open("wb") as file:
        file.write(head + before)
        for start, tensor in zip(starts, tensors, strict=True):
            file.write(start)
            tensor.write(file)
        file.write(after + tail)


class _TensorBytes:
    """A weight on its way into a file."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor
        self._before, raw, self._after = _split_message(tensor, "raw_data")
        if raw is not None:
            self._before += _start_field(tensor, "raw_data", len(raw))
        self.size = len(self._before) + len(raw or b"") + len(self._after)

    def write(self, file: BinaryIO) -> None:
        file.write(self._before)
        file.write(self._tensor.raw_data)
        file.write(self._after)


def _split_message(message: Any, name: str) -> tuple[bytes, Any, bytes]:
    """One field's value between the bytes of those before and after it, by their numbers."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    before, middle, after = type(message)(), None, type(message)()
    for field, value in message.ListFields():
        part = before if field.number < number else after
        if field.number == number:
            middle = value
        elif field.is_repeated:
            getattr(part, field.name).extend(value)
        elif field.message_type:
            getattr(part, field.name).CopyFrom(value)
        else:
            setattr(part, field.name, value)
    return before.SerializeToString(), middle, after.SerializeToString()


def _start_field(message: Any, name: str, size: int) -> bytes:
    """What stands before a field of that many bytes."""
    number = message.DESCRIPTOR.fields_by_name[name].number
    return _encode_varint(number << 3 | DELIMITED) + _encode_varint(size)


def _encode_varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])
