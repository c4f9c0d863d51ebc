"""Recorded evidence: a CPU-only desktop on which everything works, to be changed by each test."""

import pytest

from relo_edge.doctor.evidence import Evidence, Package
from relo_edge.doctor.subprocesses import Answer

SITE = "/venv/lib/python3.12/site-packages"

WHEEL_BUILD = """
  GUI:                           QT5
    QT:                          YES (ver 5.15.19 )
    GTK+:                        NO

  Video I/O:
    FFMPEG:                      YES
      avcodec:                   YES (62.28.101)
    GStreamer:                   NO
"""

NO_LIBCUDA = "libcuda.so.1: cannot open shared object file: No such file or directory"

ANSWERS = {
    "opencv": Answer({"version": "5.0.0", "file": f"{SITE}/cv2/__init__.py", "build": WHEEL_BUILD}),
    "libcuda": Answer(failure=NO_LIBCUDA),
    "pytorch": Answer({"version": "2.13.0+cpu", "cuda": False}),
    "onnxruntime": Answer({"version": "1.31.1", "listed": True, "opened": True}),
    "onnxruntime-cuda": Answer({"version": "1.31.1", "listed": False, "opened": False}),
    "onnxruntime-tensorrt": Answer({"version": "1.31.1", "listed": False, "opened": False}),
    "openvino": Answer({"version": "2026.4.1", "devices": ["CPU"]}),
    "tensorrt": Answer(failure="No module named 'tensorrt'", absent=True),
    "tensorrt_rtx": Answer(failure="No module named 'tensorrt_rtx'", absent=True),
}

GPU = Answer(
    {
        "cuda": [12, 8],
        "devices": [
            {"name": "NVIDIA H200", "capability": [9, 0], "memory": 150754820096},
        ],
    }
)


@pytest.fixture
def record():
    """Evidence of the healthy desktop, with some answers and facts replaced."""

    def build(answers=None, packages=("opencv-python 5.0.0.93", "onnxruntime 1.31.1"), **facts):
        return Evidence(
            python="3.12.3",
            platform="Linux x86_64",
            answers=ANSWERS | (answers or {}),
            packages=tuple(place_package(entry) for entry in packages),
            **facts,
        )

    return build


@pytest.fixture
def gpu():
    """What libcuda answers on a machine with one GPU."""
    return {"libcuda": GPU}


def place_package(entry):
    """`name version` in the environment, or `name version folder` elsewhere."""
    name, version, *folder = entry.split()
    return Package(name, version, folder[0] if folder else SITE)
