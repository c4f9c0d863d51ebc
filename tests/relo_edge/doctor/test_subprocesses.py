"""Child processes: played packages that hang, crash, lie or are not there."""

import shutil
import stat

import pytest

from relo_edge.doctor.evidence import find_system_modules, list_packages
from relo_edge.doctor.subprocesses import ask_child, ask_children, read_nvidia_smi

# onnxruntime as it is with the GPU package on a machine without a GPU.
FALLING_BACK = """
__version__ = "9.9"
def get_available_providers():
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, model, providers):
        print("EP Error: falling back")
    def get_providers(self):
        return ["CPUExecutionProvider"]
"""


@pytest.fixture
def play_package(tmp_path, monkeypatch):
    """Put a package of this source first on the path, for the children too."""

    def play(name, source):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(source)

    monkeypatch.syspath_prepend(tmp_path)
    return play


@pytest.mark.parametrize(
    ("source", "failure"),
    [
        ("import os; os.abort()", "importing it crashes (SIGABRT)"),
        ("import os; os._exit(3)", "importing it ends Python (exit code 3)"),
        ("import os; os._exit(0)", "importing it ends Python (exit code 0)"),
        ("import sys; sys.exit('bye')", "bye"),
        ("raise OSError('libx.so:\\n  undefined symbol')", "libx.so: undefined symbol"),
        ("raise RuntimeError", "RuntimeError"),
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
    ],
)
def test_a_broken_package_takes_only_its_child_down(play_package, source, failure):
    play_package("torch", source)
    answer = ask_child("pytorch")
    assert (answer.failure, answer.absent, answer.facts) == (failure, False, {})


def test_a_hanging_package_is_given_up(play_package):
    play_package("torch", "import time; time.sleep(60)")
    assert ask_child("pytorch", timeout=0.5).failure == "importing it did not end within 0.5 s"


@pytest.mark.slow
def test_an_absent_package_is_told_from_a_broken_one(play_package):
    play_package("openvino", "import openvino.gone")
    play_package("torch", "from torch import gone")
    play_package("tensorrt", "raise ModuleNotFoundError(name='tensorrt')")
    answers = ask_children(["openvino", "pytorch", "tensorrt"])
    assert not answers["openvino"].absent
    assert not answers["pytorch"].absent
    assert answers["tensorrt"].absent


def test_a_folder_left_by_an_uninstall_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "tensorrt_rtx" / "leftover").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    assert "folder without its code" in ask_child("tensorrt_rtx").failure


def test_the_current_folder_is_no_place_for_packages(tmp_path, monkeypatch):
    (tmp_path / "tensorrt_rtx.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    assert "the wrong one" not in ask_child("tensorrt_rtx").failure


def test_a_provider_that_falls_back_has_not_opened(play_package):
    play_package("onnxruntime", FALLING_BACK)
    answer = ask_child("onnxruntime-cuda")
    assert answer.facts == {"version": "9.9", "listed": True, "opened": False}
    assert "EP Error: falling back" in answer.chatter


def test_the_real_onnxruntime_opens_on_the_cpu():
    pytest.importorskip("onnxruntime")
    assert ask_child("onnxruntime").facts["opened"]


def test_the_real_opencv_tells_its_build():
    facts = ask_child("opencv").facts
    assert "Video I/O" in facts["build"]
    assert "cv2" in facts["file"]


@pytest.mark.parametrize(
    ("script", "expected"), [("echo 'H200, 570.1'", "H200, 570.1\n"), ("exit 9", "")]
)
def test_nvidia_smi_is_read_where_it_works(tmp_path, monkeypatch, script, expected):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!{shutil.which('sh')}\n{script}\n")
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_nvidia_smi() == expected


def test_no_nvidia_smi_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_nvidia_smi() == ""


@pytest.mark.filterwarnings("error")  # that of a missing name is to become a KeyError
def test_packages_are_listed_by_pips_names(tmp_path, monkeypatch):
    metadata = {"whole": "Name: OpenCV_Python.headless\nVersion: 1.2\n", "broken": "Summary: x\n"}
    for entry, text in metadata.items():
        (tmp_path / f"{entry}-1.2.dist-info").mkdir()
        (tmp_path / f"{entry}-1.2.dist-info" / "METADATA").write_text(text)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    (package,) = list_packages()
    assert (package.name, package.version) == ("opencv-python-headless", "1.2")
    assert package.folder == str(tmp_path)


def test_the_systems_modules_are_found_as_folders_and_as_files(tmp_path):
    places = tmp_path / "python3" / "dist-packages"
    (places / "tensorrt").mkdir(parents=True)
    (places / "cv2.cpython-310-aarch64-linux-gnu.so").touch()
    (places / "cv2x").mkdir()
    names = [path.rpartition("/")[2] for path in find_system_modules(tmp_path)]
    assert names == ["cv2.cpython-310-aarch64-linux-gnu.so", "tensorrt"]
