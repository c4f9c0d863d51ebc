"""The kernels that TensorRT for RTX compiles where an engine runs, kept beside the plan.

They are code too: only those are read back that this machine wrote.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from relo_edge.errors import ReloError
from relo_edge.host.files import write_bytes
from relo_edge.runtimes.tensorrt.trust import is_recorded, record_plan

__all__ = ["read_compiled", "write_compiled"]

log = logging.getLogger("relo_edge")

SUFFIX = ".kernels"


def read_compiled(plan: Path) -> bytes:
    """What was written before for this plan, by this machine."""
    try:
        compiled = plan.with_suffix(SUFFIX).read_bytes()
    except OSError:
        return b""
    return compiled if is_recorded(hashlib.sha256(compiled).hexdigest()) else b""


def write_compiled(plan: Path, compiled: bytes) -> None:
    """Keep it; where the bundle cannot be written, the next opening compiles once more."""
    try:
        record_plan(hashlib.sha256(compiled).hexdigest())
        write_bytes(plan.with_suffix(SUFFIX), compiled)
    except (OSError, ReloError) as error:
        log.info("compiled kernels are not kept: %s", error)
