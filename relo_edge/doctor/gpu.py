"""Judge the NVIDIA driver and its GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from relo_edge.doctor.diagnosis import Finding
from relo_edge.doctor.evidence import Evidence

__all__ = ["judge_gpu"]


def judge_gpu(evidence: Evidence) -> Iterator[Finding]:
    """The driver, then each GPU; only libcuda proves that anything can be computed."""
    libcuda = evidence.answers["libcuda"]
    version = find_driver_version(evidence)
    if libcuda.failure:
        yield explain_silence(libcuda.failure, version, evidence.nvidia_smi)
        return
    newest = ".".join(map(str, libcuda.facts["cuda"]))
    detail = f"{version or 'version unknown'}, serves CUDA up to {newest}"
    yield Finding("gpu", "driver", "ok", detail)
    for index, device in enumerate(libcuda.facts["devices"]):
        capability = ".".join(map(str, device["capability"]))
        memory = f"{device['memory'] / 2**30:.1f} GiB"
        detail = f"{device['name']}, compute capability {capability}, {memory}"
        yield Finding("gpu", f"gpu {index}", "ok", detail)


def find_driver_version(evidence: Evidence) -> str:
    """The kernel module's version, or what nvidia-smi says of it."""
    module = re.search(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)", evidence.driver)
    listed = re.search(r", ([\d.]+)$", evidence.nvidia_smi, re.MULTILINE)
    found = module or listed
    return found[1] if found else ""


def explain_silence(failure: str, version: str, nvidia_smi: str) -> Finding:
    """Why CUDA finds nothing: no driver, a container without it, or a driver that refuses."""
    if "libcuda.so.1" not in failure:
        fix = "`nvidia-smi` shows the driver's state; after a driver update, reboot"
        return Finding("gpu", "driver", "missing", f"{version} {failure}".strip(), fix)
    if not version and not nvidia_smi:
        detail = "no NVIDIA driver here (libcuda.so.1 not found)"
        return Finding("gpu", "driver", "missing", detail)
    detail = f"{version} is loaded, but libcuda.so.1 is not found: CUDA cannot be used"
    fix = "start a container with `--gpus all` and NVIDIA_DRIVER_CAPABILITIES=compute,utility"
    return Finding("gpu", "driver", "missing", detail.strip(), fix)
