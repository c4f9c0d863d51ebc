"""What an engine's sidecar has to look like before anything in it is believed."""

from __future__ import annotations

from relo_edge.validation.schema import (
    check_file_name,
    check_sha256,
    is_choice,
    is_list,
    is_map,
    is_optional,
    is_record,
    is_text,
    is_whole,
)

__all__ = ["check_sidecar"]

_WORD = is_text(128)
_BATCH = is_whole(1, 1 << 16)
_SHAPE = is_list(is_whole(0, 1 << 20), longest=8)

check_sidecar = is_record(
    {
        "graph": check_file_name,
        "precision": check_file_name,
        "graph_sha256": check_sha256,
        "plan": check_file_name,
        "plan_sha256": check_sha256,
        "flavour": _WORD,
        "tensorrt": _WORD,
        "gpu": _WORD,
        "compute_capability": is_optional(is_list(is_whole(0, 1000), 2, 2)),
        "batch": _BATCH,
        "profiles": is_map(_WORD, is_list(_SHAPE, 3, 3), most=64),
        "state_dtype": is_choice("float32", "float16"),
        "compatible": is_optional(is_choice("version", "hardware")),
        "kept_in_float32": is_map(is_text(512), is_text(512)),
    },
    {
        "least": _BATCH,
        "sm_count": is_whole(0, 1 << 16),
        "board": _WORD,
        "power_mode": _WORD,
        "attention": _WORD,
    },
)
