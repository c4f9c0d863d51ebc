"""Judge the machine itself: Python, CPU, memory, and the Jetson release where it is one."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

from relo_edge.doctor.diagnosis import Finding, Mark
from relo_edge.doctor.evidence import Evidence
from relo_edge.host.cpu import find_values

__all__ = ["NEWER_JETPACK", "judge_machine"]

# What each instruction set is called in /proc/cpuinfo, which never says both names of one.
_X86_FEATURES: Mapping[str, set[str]] = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI": {"avx512_vnni", "avx_vnni"},
    "BF16": {"avx512_bf16", "amx_bf16"},
    "AMX": {"amx_tile"},
}
_ARM_FEATURES: Mapping[str, set[str]] = {
    "NEON": {"asimd"},
    "fp16": {"asimdhp"},
    "dotprod": {"asimddp"},
    "bf16": {"bf16"},
    "i8mm": {"i8mm"},
}

# ARM kernels give a core's maker and part number instead of its name.
_ARM_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x41", "0xd83"): "Neoverse-V3AE",
    ("0x4e", "0x004"): "Carmel",
}

_JETPACKS = {"32": "4", "34": "5", "35": "5", "36": "6", "38": "7", "39": "7"}
NEWER_JETPACK = "install JetPack 6.1 or newer"
_OLDEST_L4T = (36, 4)  # JetPack 6.1; 6.0 still has TensorRT 8.6

_MEMORY_LINE = re.compile(r"^(Mem\w+):\s+(\d+) kB", re.MULTILINE)
_GIB = 2**20  # in the KiB of /proc/meminfo


def judge_machine(evidence: Evidence) -> Iterator[Finding]:
    """What the computer is and which of its abilities matter here."""
    yield Finding("machine", "python", "ok", f"{evidence.python} on {evidence.platform}")
    yield Finding(
        "machine", "cpu", "ok", f"{name_cpu(evidence.cpuinfo)}, {count_usable_cores(evidence)}"
    )
    yield from judge_instructions(evidence.cpuinfo)
    if evidence.meminfo:
        yield judge_memory(evidence)
    if evidence.is_jetson:
        yield judge_jetson(evidence)
    elif evidence.board:
        yield Finding("machine", "board", "ok", evidence.board)


def name_cpu(cpuinfo: str) -> str:
    """The CPU's name, or on ARM those of its kinds of core."""
    parts = zip(
        find_values(cpuinfo, "CPU implementer"),
        find_values(cpuinfo, "CPU part"),
        strict=False,
    )
    names = [_ARM_CORES.get(part, f"ARM core {'/'.join(part)}") for part in parts]
    names = names or find_values(cpuinfo, "model name")
    return " + ".join(dict.fromkeys(names)) or "unknown CPU"


def count_usable_cores(evidence: Evidence) -> str:
    """The cores to count on; a container may hold many and be given the time of few."""
    quota = re.match(r"(\d+) (\d+)", evidence.cpu_quota)
    limit = math.ceil(int(quota[1]) / int(quota[2])) if quota else evidence.cores
    if limit < evidence.cores:
        return f"the time of {limit} out of {evidence.cores} cores (a container's quota)"
    return f"{evidence.cores} core{'s' if evidence.cores > 1 else ''} usable"


def judge_instructions(cpuinfo: str) -> Iterator[Finding]:
    """Which instruction sets there are, and so which precision suits OpenVINO."""
    for key, table in (("flags", _X86_FEATURES), ("Features", _ARM_FEATURES)):
        for words in find_values(cpuinfo, key)[:1]:
            present = [name for name, spellings in table.items() if spellings & set(words.split())]
            absent = [name for name in table if name not in present]
            listing = [*present, f"(no {', '.join(absent)})"] if absent else present
            advice = advise_precision(present, absent)
            mark: Mark = "warning" if "AVX2" in absent else "ok"
            yield Finding("machine", "instructions", mark, f"{' '.join(listing)}: {advice}")


def advise_precision(present: list[str], absent: list[str]) -> str:
    """OpenVINO emulates bf16 on an x86 without BF16, and has none on any ARM."""
    if "AVX2" in absent:
        return "without AVX2 every CPU runtime is slow here"
    if "BF16" in present:
        return "OpenVINO bf16 pays here"
    return "OpenVINO bf16 does not pay here, float32 does"


def judge_memory(evidence: Evidence) -> Finding:
    """Memory, and how much of it is free."""
    sizes = {key: int(size) / _GIB for key, size in _MEMORY_LINE.findall(evidence.meminfo)}
    free = sizes.get("MemAvailable", sizes["MemFree"])  # old kernels give no estimate
    shared = ", shared with the GPU" if evidence.is_jetson else ""
    detail = f"{sizes['MemTotal']:.1f} GiB, {free:.1f} GiB of it free{shared}"
    return Finding("machine", "memory", "ok", detail)


def judge_jetson(evidence: Evidence) -> Finding:
    """The board and its release, which fixes the TensorRT and CUDA it can have."""
    board = evidence.board or "Jetson"
    release = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", evidence.tegra_release)
    if not release:
        detail = f"{board}, L4T release unknown (a container hides /etc/nv_tegra_release)"
        return Finding("machine", "jetson", "warning", detail)
    jetpack = _JETPACKS.get(release[1], "unknown")
    detail = f"{board}, L4T {release[1]}.{release[2]} (JetPack {jetpack})"
    if (int(release[1]), int(release[2].split(".")[0])) < _OLDEST_L4T:
        detail += ": its TensorRT is too old"
        return Finding("machine", "jetson", "warning", detail, NEWER_JETPACK)
    return Finding("machine", "jetson", "ok", detail)
