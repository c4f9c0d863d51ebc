"""Files of `torch.save`, read as plain data: nothing a pickle names is imported, called or built.

`torch.load` with a restricted unpickler would not do: a legacy file can rename an allowed function
and make torch write a source patch of that name, four bytes of memo index fill the memory, and
nested tuples hash for ever. Here opcodes are walked; only dicts, lists and tensors mean anything.
"""

from __future__ import annotations

import pickletools
import struct
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from relo_edge.network.stored_tensors import (
    DAMAGED,
    FileBytes,
    StoredTensor,
    open_window,
    view_numbers,
)
from relo_edge.network.torch_zip import list_records

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Inert", "read_torch_file"]

OPCODE_LIMIT = 1_000_000  # the largest release file takes a seventh
LONGEST_NAME = 200
SIZE_LIMIT = 1 << 48
ZIP_START = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# What torch calls a storage: the dtype it holds, and that dtype's bytes.
STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}


@dataclass(frozen=True)
class Inert:
    """A global that a pickle names, or what calling it would have made; it does nothing."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file, which tensors view."""

    key: str
    dtype: str
    item_size: int


class InertUnpickler:
    """Walks the pickles of one file; `places` says where in it each storage starts and ends."""

    def __init__(self, data: FileBytes) -> None:
        self.data = data
        self._left = OPCODE_LIMIT
        self.places: dict[str, tuple[int, int]] = {}
        self.storages: dict[str, Storage] = {}

    def load(self, stream: BinaryIO) -> Any:
        """The next pickle's value: literals, tuples, lists, dicts, tensors and inert things."""
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        value = None
        try:
            for opcode, argument, _ in pickletools.genops(stream):
                self._left -= 1
                if self._left < 0:
                    raise ValueError("a pickle without end")
                value = self._step(opcode, argument)
        except (LookupError, ValueError, MemoryError) as error:  # a length may promise anything
            raise ValueError(DAMAGED) from error
        return value

    def _step(self, opcode: pickletools.OpcodeInfo, argument: Any) -> Any:
        if opcode.name == "MARK":
            self._marks.append(len(self._stack))
            return None
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            index = len(self._memo) if opcode.name == "MEMOIZE" else argument
            self._memo[index] = self._stack[-1]
            return None
        value = self._evaluate(opcode.name, argument, *self._take_operands(opcode))
        self._stack += [value] * len(opcode.stack_after)
        return value

    def _take_operands(self, opcode: pickletools.OpcodeInfo) -> tuple[list[Any], list[Any]]:
        """The operands below the last mark and those above it, taken off the stack."""
        wanted, above = opcode.stack_before, []
        if pickletools.markobject in wanted:
            wanted = wanted[: wanted.index(pickletools.markobject)]
            start = self._marks.pop()
            above, self._stack[start:] = self._stack[start:], []
        below = [self._stack.pop() for _ in wanted]
        return below[::-1], above

    def _evaluate(self, name: str, argument: Any, below: list[Any], above: list[Any]) -> Any:
        match name:
            case "EMPTY_DICT":
                return {}
            case "EMPTY_LIST":
                return []
            case "EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "TUPLE":
                return tuple(below + above)
            case "APPEND" | "APPENDS" | "SETITEM" | "SETITEMS":
                return _fill_container(below[0], below[1:] + above)
            case "GET" | "BINGET" | "LONG_BINGET":
                return self._memo[argument]
            case "GLOBAL":
                return Inert(argument.replace(" ", "."))
            case "STACK_GLOBAL":
                return Inert(
                    ".".join(part[:LONGEST_NAME] for part in below if isinstance(part, str))
                )
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX":
                return self._imagine_call(below[0], below[1])
            case "BINPERSID":
                return self._find_storage(below[0])
            case "BUILD" | "DUP" | "STOP":
                return below[0]
        return argument  # a literal, or None for what weights never need

    def _imagine_call(self, maker: Any, arguments: Any) -> Any:
        match maker, arguments:
            case Inert("collections.OrderedDict"), _:
                return {}
            case Inert("torch._utils._rebuild_parameter"), (StoredTensor() as tensor, _, _):
                return tensor
            case (
                Inert("torch._utils._rebuild_tensor_v2"),
                (Storage() as storage, offset, tuple(shape), tuple(stride), _, _),
            ) if len(shape) == len(stride) <= 8 and _are_sizes(offset, *shape, *stride):
                read = partial(self._read_tensor, storage, offset, shape, stride)
                return StoredTensor(shape, read)
        return maker if isinstance(maker, Inert) else None

    def _find_storage(self, identity: Any) -> Storage | None:
        if not isinstance(identity, tuple) or len(identity) > 6:
            return None
        match identity:
            case ("storage", Inert(kind), str(key), str(), _, *views) if not any(views):
                if held := STORAGES.get(kind.rpartition(".")[2]):
                    return self.storages.setdefault(key, Storage(key, *held))
        return None

    def _read_tensor(
        self, storage: Storage, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
    ) -> Tensor:
        place = self.places.get(storage.key, (0, 0))
        kind = (storage.dtype, storage.item_size)
        return view_numbers(self.data, place, kind, (offset, shape, stride))


def read_torch_file(data: FileBytes) -> Any:
    """What `torch.save` wrote, as a zip or in its legacy form; ValueError says what is wrong."""
    unpickler = InertUnpickler(data)
    try:
        if data.read(0, min(data.size, len(ZIP_START))) == ZIP_START:
            return _read_zip(unpickler)
        return _read_legacy(unpickler)
    except (LookupError, UnicodeDecodeError, OverflowError, struct.error) as error:
        raise ValueError(DAMAGED) from error


def _read_zip(unpickler: InertUnpickler) -> Any:
    data, places = unpickler.data, list_records(unpickler.data)
    pickled = next((name for name in places if name.endswith("/data.pkl")), None)
    if pickled is None:
        raise ValueError("a zip archive that torch did not write")
    folder = pickled.removesuffix("data.pkl")
    if f"{folder}constants.pkl" in places:
        raise ValueError("a TorchScript archive, which is a program")
    start, end = places.get(f"{folder}byteorder", (0, 0))
    if data.read(start, min(end, start + 8)) == b"big":
        raise ValueError("numbers in big-endian order")
    prefix = f"{folder}data/"
    unpickler.places = {name.removeprefix(prefix): place for name, place in places.items()}
    return unpickler.load(open_window(data, *places[pickled]))


def _read_legacy(unpickler: InertUnpickler) -> Any:
    data = unpickler.data
    stream = open_window(data, 0, data.size)
    if unpickler.load(stream) != LEGACY_MAGIC:
        raise ValueError("a pickle that torch did not write")
    _version, _system, content, keys = (unpickler.load(stream) for _ in range(4))
    start = stream.tell()
    for key in keys if isinstance(keys, list) else ():
        storage = unpickler.storages[key if isinstance(key, str) else ""]
        count = int.from_bytes(data.read(start, start + 8), "little", signed=True)
        end = start + 8 + count * storage.item_size
        if not start < end <= data.size:
            raise ValueError(DAMAGED)
        unpickler.places[key] = (start + 8, end)
        start = end
    return content


def _fill_container(target: Any, values: list[Any]) -> Any:
    """Weights have names: any other key is dropped, so that nothing slow is ever hashed."""
    if isinstance(target, list):
        target += values
    elif isinstance(target, dict):
        pairs = zip(values[::2], values[1::2], strict=False)
        target.update((key, value) for key, value in pairs if isinstance(key, str))
    return target


def _are_sizes(*values: Any) -> bool:
    return all(isinstance(value, int) and 0 <= value < SIZE_LIMIT for value in values)
