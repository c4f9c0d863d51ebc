"""What a manifest has to look like before anything in it is believed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from relo_edge.validation.schema import (
    Mismatch,
    check_file_name,
    check_sha256,
    is_choice,
    is_list,
    is_map,
    is_number,
    is_record,
    is_text,
    is_whole,
)

__all__ = ["FORMAT", "check_graphs", "check_manifest"]

FORMAT = 2
"""Of what is written now. Format 1 named no family: its bundles are those of the first one."""
STATE_DTYPES = ("float32", "float16")

LARGEST_SIZE = 1 << 16
"""Of any dimension of a network: what is larger is no tracker for the edge."""
LARGEST_FILE = 1 << 40

_WORD = is_text(64, empty=False)
_SIZE = is_whole(0, LARGEST_SIZE)
_PROTOCOLS = is_map(_WORD, is_map(_WORD, is_number(), most=32), most=64)


def check_variant(value: Any) -> None:
    """A name, tracker settings and sizes; which sizes, each architecture knows itself."""
    is_record({"name": check_file_name, "protocols": _PROTOCOLS})(value)
    sizes = {key: size for key, size in value.items() if key not in ("name", "protocols")}
    is_map(_WORD, _check_size, most=64)(sizes)


def _check_size(value: Any) -> None:
    """One number, or some: blocks come by stage, and convolutions one by one."""
    if isinstance(value, list):
        is_list(_SIZE, longest=64)(value)
    else:
        _SIZE(value)


def _check_row(value: Any) -> None:
    """A frame of recorded parity: which one, the targets restarted there, and errors by tensor."""
    is_record({"frame": is_whole(0, 1 << 32), "restarted": is_list(_SIZE)})(value)
    errors = {key: error for key, error in value.items() if key not in ("frame", "restarted")}
    is_map(_WORD, is_number(), most=32)(errors)


_FILE = is_record({"bytes": is_whole(0, LARGEST_FILE), "sha256": check_sha256})
_ENGINE_GRAPH = is_record(
    {
        "file": check_file_name,
        "state_dtype": is_choice(*STATE_DTYPES),
        "kept_in_float32": is_map(is_text(512), is_text(512)),
    }
)
_PARITY = is_record({"against": _WORD, "frames": is_list(_check_row, shortest=1, longest=1000)})
_COSINES = is_map(_WORD, is_record({"cosine": is_number()}), most=64)

_MANIFEST = is_record(
    {
        "variant": check_variant,
        "checkpoint": is_record({"path": is_text(empty=False), "sha256": check_sha256}),
        "files": is_map(check_file_name, _FILE, most=1000),
        "graphs": is_map(check_file_name, is_map(check_file_name, check_file_name, 16), most=32),
        "state_dtype": is_map(check_file_name, is_choice(*STATE_DTYPES), most=32),
    },
    {
        "family": _WORD,
        "tools": is_map(_WORD, _WORD, most=64),
        "engine_graphs": is_map(check_file_name, is_map(check_file_name, _ENGINE_GRAPH, 16), 32),
        "parity": is_map(check_file_name, _PARITY, most=32),
        "verdicts": is_map(check_file_name, is_record({}, {"outputs": _COSINES}), most=32),
    },
)


def check_manifest(manifest: Any) -> None:
    """Refuse a manifest in which anything is missing or of the wrong type, size or range.

    Args:
        manifest: what the file holds, of a format that this version knows.

    Raises:
        Mismatch: the first thing that is wrong.
    """
    _MANIFEST(manifest)


def check_graphs(manifest: Mapping[str, Any], graphs: tuple[str, ...]) -> None:
    """Refuse a manifest of which a precision lacks a graph, or a graph its file.

    Args:
        manifest: one that `check_manifest` has accepted.
        graphs: the names of the graphs that each precision has.

    Raises:
        Mismatch: the first thing that is wrong.
    """
    named = [(f"graphs.{p}", files) for p, files in manifest["graphs"].items()]
    for precision, entries in manifest.get("engine_graphs", {}).items():
        files = {name: entry["file"] for name, entry in entries.items()}
        named.append((f"engine_graphs.{precision}", files))
    if "fp32" not in manifest["graphs"]:
        raise Mismatch("nothing", "the float32 graphs", "graphs.fp32")
    for place, files in named:
        for graph in graphs:
            if graph not in files:
                raise Mismatch("nothing", "a file name", f"{place}.{graph}")
    for precision in manifest["graphs"]:
        if precision not in manifest["state_dtype"]:
            raise Mismatch("nothing", " or ".join(STATE_DTYPES), f"state_dtype.{precision}")
    for place, files in named:
        for graph, name in files.items():
            if name not in manifest["files"]:
                raise Mismatch(repr(name), "a name in files", f"{place}.{graph}")
