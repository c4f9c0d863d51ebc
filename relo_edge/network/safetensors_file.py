"""Safetensors files: a short JSON header, then numbers."""

from __future__ import annotations

import json
import math
from functools import partial

from relo_edge.network.stored_tensors import DAMAGED, FileBytes, StoredTensor, view_numbers
from relo_edge.validation.schema import (
    Mismatch,
    is_choice,
    is_list,
    is_map,
    is_record,
    is_text,
    is_whole,
)

__all__ = ["list_safetensors"]

LARGEST_HEADER = 16 << 20
DTYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
METADATA = "__metadata__"

_SIZE = is_whole(0, 1 << 48)
_ENTRY = is_record(
    {
        "dtype": is_choice(*DTYPES),
        "shape": is_list(_SIZE, longest=8),
        "data_offsets": is_list(_SIZE, 2, 2),
    }
)


def list_safetensors(data: FileBytes) -> dict[str, StoredTensor]:
    """Every tensor of the file; ValueError says what is wrong with it."""
    end = 8 + int.from_bytes(data.read(0, 8), "little")
    if end > min(data.size, LARGEST_HEADER):
        raise ValueError(DAMAGED)
    try:
        header = json.loads(data.read(8, end))
        if isinstance(header, dict):
            header.pop(METADATA, None)
        is_map(is_text(1024), _ENTRY, most=1 << 16)(header)
    except (ValueError, RecursionError, Mismatch):
        raise ValueError("a damaged safetensors header") from None
    tensors, covered = {}, end
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, item = DTYPES[entry["dtype"]]
        shape = tuple(entry["shape"])
        start, stop = (end + offset for offset in entry["data_offsets"])
        # As the format has it: one after the other, without holes.
        if start != covered or stop - start != math.prod(shape) * item:
            raise ValueError(DAMAGED)
        covered = stop
        view = (0, shape, _lay_out(shape))
        read = partial(view_numbers, data, (start, stop), (dtype, item), view)
        tensors[name] = StoredTensor(shape, read)
    if covered != data.size:
        raise ValueError(DAMAGED)
    return {name: tensors[name] for name in header}


def _lay_out(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a contiguous tensor."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
