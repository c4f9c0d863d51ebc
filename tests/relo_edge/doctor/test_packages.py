"""Packages that overwrite or hide one another."""

import pytest

from relo_edge.doctor.packages import judge_packages
from relo_edge.doctor.subprocesses import Answer

SYSTEM = "/usr/lib/python3.10/dist-packages"
ORIN = "NVIDIA Jetson Orin NX"


def judge(evidence):
    return list(judge_packages(evidence))


def test_nothing_in_conflict_is_one_line(record):
    (finding,) = judge(record())
    assert (finding.mark, finding.detail) == ("ok", "none")


def test_two_onnxruntimes_are_uninstalled_together(record, gpu):
    packages = ["onnxruntime 1.31.1", "onnxruntime-gpu 1.30.0", "onnxruntime-extensions 0.14"]
    (finding,) = judge(record(packages=packages))
    assert finding.mark == "warning"
    assert "onnxruntime and onnxruntime-gpu overwrite each other" in finding.detail
    uninstall = "`pip uninstall -y onnxruntime onnxruntime-gpu && pip install"
    assert finding.fix == f"{uninstall} onnxruntime`"
    (finding,) = judge(record(gpu, packages))
    assert finding.fix == f"{uninstall} onnxruntime-gpu`"


def test_two_opencvs_are_uninstalled_together(record):
    packages = ["opencv-python-headless 4.11.0.86", "opencv-python 5.0.0.93"]
    (finding,) = judge(record(packages=packages))
    uninstall = "`pip uninstall -y opencv-python opencv-python-headless"
    assert finding.fix == f"{uninstall} && pip install opencv-python`"


@pytest.mark.parametrize("family", ["opencv-python 4.6.0", "onnxruntime-gpu 1.20.0"])
def test_a_second_one_in_another_folder_only_hides(record, family):
    packages = ["opencv-python-headless 5.0.0.93", "onnxruntime 1.31.1", f"{family} {SYSTEM}"]
    (finding,) = judge(record(packages=packages))
    assert finding.mark == "ok"


@pytest.mark.parametrize(
    ("packages", "conflict"),
    [
        (["tensorrt 10.13.0", "tensorrt-cu12 10.13.0", "tensorrt-cu12-libs 10.13.0"], False),
        (["tensorrt 10.13.0", "tensorrt-cu12 10.3.0"], True),
        (["tensorrt-cu12 10.13.0", "tensorrt-cu13 10.13.0"], True),
        (["tensorrt 10.13.0", "tensorrt-rtx 1.7.1", "tensorrt-rtx-cu13-libs 1.7.1"], False),
    ],
)
def test_tensorrt_wheels_must_belong_together(record, packages, conflict):
    (finding,) = judge(record(packages=packages))
    assert (finding.mark == "warning") == conflict


def test_one_package_seen_twice_is_no_conflict(record):
    (finding,) = judge(record(packages=["opencv-python 5.0.0.93", "opencv-python 4.11.0.86"]))
    assert finding.mark == "ok"


def test_the_tensorrt_fix_removes_every_wheel_of_it(record):
    (finding,) = judge(record(packages=["tensorrt-cu12 10.3.0", "tensorrt-cu13 11.4.0"]))
    assert finding.detail.endswith("tensorrt-cu12 10.3.0, tensorrt-cu13 11.4.0")
    assert finding.fix.startswith("`pip uninstall -y tensorrt-cu12 tensorrt-cu13 && ")


def test_a_wheel_that_hides_jetpacks_opencv_is_told(record):
    modules = (f"{SYSTEM}/cv2",)
    (finding,) = judge(record(board=ORIN, system_modules=modules))
    assert finding.detail.endswith(f"hides JetPack's OpenCV with GStreamer ({SYSTEM}/cv2)")
    assert "pip uninstall -y opencv-python" in finding.fix
    assert judge(record(system_modules=modules))[0].mark == "ok"


def test_jetpacks_tensorrt_out_of_a_venvs_sight_is_told(record):
    (finding,) = judge(record(board=ORIN, system_modules=(f"{SYSTEM}/tensorrt",)))
    assert f"{SYSTEM}/tensorrt, out of this environment's sight" in finding.detail
    assert "--system-site-packages" in finding.fix


def test_a_tensorrt_wheel_beside_jetpacks_is_told(record):
    packages = ["tensorrt 10.13.0", f"tensorrt 10.3.0 {SYSTEM}"]
    evidence = record(board=ORIN, packages=packages, system_modules=(f"{SYSTEM}/tensorrt",))
    (finding,) = judge(evidence)
    assert "beside JetPack's TensorRT" in finding.detail
    assert "pip uninstall -y tensorrt`" in finding.fix


def test_jetpacks_own_tensorrt_alone_is_fine(record):
    evidence = record(
        {"tensorrt": Answer({"version": "10.3.0", "cuda": ""})},
        [f"tensorrt 10.3.0 {SYSTEM}"],
        board=ORIN,
        system_modules=(f"{SYSTEM}/tensorrt",),
    )
    (finding,) = judge(evidence)
    assert finding.mark == "ok"
