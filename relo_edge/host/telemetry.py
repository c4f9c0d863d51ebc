"""Nothing is sent from the user's machine: libraries that report usage are told not to."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["SWITCH", "import_silenced", "silence_libraries"]

SWITCH = "RELO_EDGE_TELEMETRY"
"""Set to 1, it leaves the libraries' own behaviour as it is."""

# What each library reads before it reports anything: onnxruntime, the Hugging Face hub, Ray.
_OPT_OUTS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
# OpenVINO has no such variable; without this package it falls back to a stub that does nothing.
_OPENVINO_TELEMETRY = "openvino_telemetry"


def import_silenced(name: str) -> Any:
    """Import a module of a library that reports usage, after its reports are turned off."""
    silence_libraries()
    return importlib.import_module(name)


def silence_libraries() -> None:
    """Turn usage reports off, in this process and its children; takes effect before the imports."""
    if os.environ.get(SWITCH) == "1":
        return
    os.environ.update(_OPT_OUTS)
    if _OPENVINO_TELEMETRY not in sys.modules:
        sys.modules[_OPENVINO_TELEMETRY] = None  # type: ignore[assignment]
