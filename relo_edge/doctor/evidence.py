"""Everything doctor looks at, recorded as text, so that tests can judge any machine."""

from __future__ import annotations

import os
import platform
import re
import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path

from relo_edge.doctor.probe import PROBES
from relo_edge.doctor.subprocesses import Answer, ask_children, read_nvidia_smi
from relo_edge.host.cpu import count_cores, read_text

__all__ = ["Evidence", "Package", "collect_evidence"]


@dataclass(frozen=True)
class Package:
    """One installed distribution and the folder it went into."""

    name: str
    version: str
    folder: str


@dataclass(frozen=True)
class Evidence:
    """Raw texts and answers; an empty text is a file that this machine does not have."""

    python: str = ""
    platform: str = ""
    cores: int = 1
    cpu_quota: str = ""
    cpuinfo: str = ""
    meminfo: str = ""
    board: str = ""
    tegra_release: str = ""
    driver: str = ""
    nvidia_smi: str = ""
    gst_launch: str = ""
    system_modules: tuple[str, ...] = ()
    packages: tuple[Package, ...] = ()
    answers: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def is_jetson(self) -> bool:
        """Whether JetPack, not pip, is where CUDA and TensorRT come from."""
        return bool(self.tegra_release) or "Jetson" in self.board

    @property
    def has_gpu(self) -> bool:
        """Whether CUDA reaches a GPU."""
        return bool(self.answers["libcuda"].facts.get("devices"))

    def versions(self, name: str) -> list[str]:
        """The installed versions of a distribution; one for each folder that holds it."""
        return [package.version for package in self.packages if package.name == name]


def collect_evidence() -> Evidence:
    """Look at this machine; reading files takes no time beside the children."""
    with ThreadPoolExecutor(1) as pool:
        nvidia_smi = pool.submit(read_nvidia_smi)
        answers = ask_children(PROBES)
    return Evidence(
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        cores=count_cores(),
        cpu_quota=read_text("/sys/fs/cgroup/cpu.max"),
        cpuinfo=read_text("/proc/cpuinfo"),
        meminfo=read_text("/proc/meminfo"),
        board=read_text("/proc/device-tree/model").strip("\0\n"),
        tegra_release=read_text("/etc/nv_tegra_release"),
        driver=read_text("/proc/driver/nvidia/version"),
        nvidia_smi=nvidia_smi.result(),
        gst_launch=shutil.which("gst-launch-1.0") or "",
        system_modules=tuple(find_system_modules(Path("/usr/lib"))),
        packages=tuple(list_packages()),
        answers=answers,
    )


def find_system_modules(root: Path) -> Iterator[str]:
    """OpenCV and TensorRT as Debian packages and JetPack install them, seen from here or not."""
    for name in ("cv2", "tensorrt"):
        yield from map(str, sorted(root.glob(f"python3*/dist-packages/{name}")))
        yield from map(str, sorted(root.glob(f"python3*/dist-packages/{name}.*.so")))


def list_packages() -> Iterator[Package]:
    """Every distribution on this Python's path, its name as pip normalises it."""
    for found in distributions():
        if "Name" not in found.metadata:
            continue  # an interrupted install leaves such entries
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        yield Package(name, found.version, str(found.locate_file("")).rstrip(os.sep))
