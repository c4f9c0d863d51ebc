"""The machine of a measurement: enough to know whether two numbers may be compared."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from relo_edge.doctor.machine import judge_instructions, name_cpu
from relo_edge.host.cpu import count_cores, read_text
from relo_edge.host.tools import ask_tool, read_power_mode

__all__ = ["describe_machine"]

PACKAGES = "relo-edge numpy opencv-python torch onnxruntime onnxruntime-gpu openvino tensorrt"
FREQUENCY = "/sys/devices/system/cpu/cpu0/cpufreq"
GPU_FACTS = {
    "gpu": "name",
    "driver": "driver_version",
    "gpu_clock_mhz": "clocks.sm",
    "gpu_memory_clock_mhz": "clocks.mem",
    "gpu_power_limit_w": "power.limit",
}
JETSON_CLOCKS = ("/sys/class/devfreq/17000000.gpu", "/sys/class/devfreq/17000000.ga10b")


def describe_machine() -> dict[str, Any]:
    """Every known fact; unknown ones are left out."""
    cpuinfo = read_text("/proc/cpuinfo")
    found: dict[str, Any] = {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": name_cpu(cpuinfo),
        "instructions": "; ".join(finding.detail for finding in judge_instructions(cpuinfo)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cores": count_cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "governor": read_text(f"{FREQUENCY}/scaling_governor").strip(),
        "cpu_clock_mhz": _read_mhz(f"{FREQUENCY}/scaling_cur_freq", 1e3),
        "board": read_text("/proc/device-tree/model").strip("\0\n"),
        "power_mode": read_power_mode(),
        **_ask_nvidia_smi(),
        **_read_jetson_clock(),
        **{tool: _find_version(tool) for tool in PACKAGES.split()},
    }
    return {name: value for name, value in found.items() if value not in ("", None)}


def _find_version(tool: str) -> str:
    try:
        return version(tool)
    except PackageNotFoundError:
        return ""


def _read_mhz(path: str, divisor: float) -> float | None:
    text = read_text(path).strip()
    return round(int(text) / divisor, 1) if text.isdecimal() else None


def _read_jetson_clock() -> dict[str, float | None]:
    """A Jetson's GPU has no nvidia-smi clocks; its devfreq node does."""
    node = next((folder for folder in JETSON_CLOCKS if Path(folder).is_dir()), None)
    return {"gpu_clock_mhz": _read_mhz(f"{node}/cur_freq", 1e6)} if node else {}


def _ask_nvidia_smi() -> dict[str, str]:
    query = f"--query-gpu={','.join(GPU_FACTS.values())}"
    printed = ask_tool("nvidia-smi", query, "--format=csv,noheader,nounits")
    values = [value.strip() for value in printed.partition("\n")[0].split(",")]
    known = zip(GPU_FACTS, values, strict=False)
    return {name: value for name, value in known if value and "N/A" not in value}
