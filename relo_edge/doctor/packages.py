"""Judge what is installed beside what: packages that overwrite or hide one another."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator

from relo_edge.doctor.diagnosis import Finding
from relo_edge.doctor.evidence import Evidence, Package
from relo_edge.doctor.vision import OPENCV_WHEELS, find_wheel

__all__ = ["judge_packages"]

_ONNXRUNTIMES = (
    "onnxruntime",
    "onnxruntime-directml",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-rocm",
    "onnxruntime-training",
)

_SYSTEM_VENV = "a venv made with `--system-site-packages`"


def judge_packages(evidence: Evidence) -> Iterator[Finding]:
    """The conflicts, or one line that says there are none."""
    conflicts = [
        *judge_onnxruntimes(evidence),
        *judge_opencvs(evidence),
        *judge_tensorrts(evidence),
        *judge_hidden_opencv(evidence),
        *judge_system_tensorrt(evidence),
    ]
    yield from conflicts or [Finding("packages", "conflicts", "ok", "none")]


def judge_onnxruntimes(evidence: Evidence) -> Iterator[Finding]:
    """They share one folder: the last installed wins, and removing either breaks both."""
    for names in find_neighbours(evidence, _ONNXRUNTIMES.__contains__):
        keep = "onnxruntime-gpu" if evidence.has_gpu else "onnxruntime"
        detail = (
            f"{' and '.join(names)} overwrite each other: the last installed wins, "
            "removing either breaks both"
        )
        yield warn("onnxruntime", detail, reinstall(names, keep))


def judge_opencvs(evidence: Evidence) -> Iterator[Finding]:
    """All wheels of OpenCV install the same cv2 folder."""
    for names in find_neighbours(evidence, OPENCV_WHEELS.__contains__):
        keep = next((name for name in names if not name.endswith("headless")), names[0])
        detail = f"{' and '.join(names)} overwrite each other's cv2: removing either breaks both"
        yield warn("opencv", detail, reinstall(names, keep))


def judge_tensorrts(evidence: Evidence) -> Iterator[Finding]:
    """TensorRT is several wheels that must be of one version and for one CUDA."""
    wheels = find_tensorrt_wheels(evidence)
    versions = {package.version for package in wheels}
    cudas = {found[1] for p in wheels if (found := re.search(r"-(cu\d+)", p.name))}
    if len(versions) > 1 or len(cudas) > 1:
        listing = ", ".join(f"{package.name} {package.version}" for package in wheels)
        names = list(dict.fromkeys(package.name for package in wheels))
        detail = f"TensorRT wheels do not belong together: {listing}"
        yield warn("tensorrt", detail, reinstall(names, "'relo-edge[tensorrt]'"))


def judge_hidden_opencv(evidence: Evidence) -> Iterator[Finding]:
    """On a Jetson a wheel hides the OpenCV that can open the CSI camera."""
    system = find_system_module(evidence, "cv2")
    wheel = find_wheel(evidence)
    if evidence.is_jetson and system and wheel:
        detail = f"the wheel {wheel.name} hides JetPack's OpenCV with GStreamer ({system})"
        yield warn("opencv", detail, f"`pip uninstall -y {wheel.name}`, then use {_SYSTEM_VENV}")


def judge_system_tensorrt(evidence: Evidence) -> Iterator[Finding]:
    """A Jetson's TensorRT belongs to its JetPack: no wheel replaces it, and a venv hides it."""
    system = find_system_module(evidence, "tensorrt")
    wheels = find_tensorrt_wheels(evidence)
    if not (evidence.is_jetson and system):
        return
    if wheels:
        names = " ".join(dict.fromkeys(package.name for package in wheels))
        detail = f"TensorRT wheels ({names}) beside JetPack's TensorRT ({system})"
        yield warn("tensorrt", detail, f"`pip uninstall -y {names}`, then use {_SYSTEM_VENV}")
    elif evidence.answers["tensorrt"].absent:
        detail = f"JetPack's TensorRT is at {system}, out of this environment's sight"
        yield warn("tensorrt", detail, f"install relo-edge into {_SYSTEM_VENV}")


def find_neighbours(evidence: Evidence, belongs: Callable[[str], bool]) -> Iterator[list[str]]:
    """Distributions of one family in one folder; apart, the first merely hides the others."""
    folders = defaultdict[str, set[str]](set)
    for package in evidence.packages:
        if belongs(package.name):
            folders[package.folder].add(package.name)
    return (sorted(names) for names in folders.values() if len(names) > 1)


def find_tensorrt_wheels(evidence: Evidence) -> list[Package]:
    """The pip packages of full TensorRT, without JetPack's own and without TensorRT for RTX."""
    return [
        package
        for package in evidence.packages
        if re.fullmatch(r"tensorrt(-cu\d+)?(-bindings|-libs)?", package.name)
        and not package.folder.startswith("/usr/lib/")
    ]


def find_system_module(evidence: Evidence, name: str) -> str:
    """Where the system's package manager put a module; nothing when it did not."""
    places = (p for p in evidence.system_modules if p.rsplit("/", 1)[1].split(".")[0] == name)
    return next(places, "")


def reinstall(names: list[str], keep: str) -> str:
    """Remove all of them first: what one uninstall leaves of the others does not work."""
    return f"`pip uninstall -y {' '.join(names)} && pip install {keep}`"


def warn(subject: str, detail: str, fix: str) -> Finding:
    """A conflict; what it breaks shows in the other sections."""
    return Finding("packages", subject, "warning", detail, fix)
