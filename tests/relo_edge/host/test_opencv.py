"""A broken OpenCV in one line: what is missing, and what to install."""

import os
import subprocess
import sys

import pytest

from relo_edge.host.opencv import explain_failure

LOADER = "{}: cannot open shared object file: No such file or directory"

# A verb that needs OpenCV, as the command line runs one.
VERB = """
import sys
from relo_edge.cli import app, main
@app.command()
def look() -> None:
    import relo_edge.host.opencv
    print("seen")
sys.argv = ["relo-edge", "look"]
main()
"""


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libGL.so.1", "libgl1"),
        ("libgthread-2.0.so.0", "libglib2.0-0"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
        ("libSM.so.6", "libsm6"),
        ("libxcb.so.1", "libxcb1"),
        ("libxcb-icccm.so.4", "libxcb-icccm4"),
        ("libxcb-render-util.so.0", "libxcb-render-util0"),
    ],
)
def test_a_missing_library_is_named_with_its_debian_package(library, package):
    message = str(explain_failure(ImportError(LOADER.format(library))))
    assert f"found no {library} on this system" in message
    assert f"`apt-get install {package}`" in message
    assert "opencv-python-headless" in message


def test_an_unknown_library_is_named_with_the_way_to_its_package():
    message = str(explain_failure(ImportError(LOADER.format("libavcodec.so.58"))))
    assert "found no libavcodec.so.58" in message
    assert "apt-file search libavcodec.so.58" in message


@pytest.mark.parametrize(
    ("error", "found", "fix"),
    [
        (
            ModuleNotFoundError("No module named 'cv2'", name="cv2"),
            "no cv2 installed",
            "`pip install opencv-python`",
        ),
        (
            ModuleNotFoundError("No module named 'numpy'", name="numpy"),
            "no numpy installed",
            "`pip install numpy`",
        ),
        (
            ImportError("numpy.core.multiarray failed to import"),
            "a build for another numpy",
            "`pip install 'numpy<2'`",
        ),
        (
            RuntimeError("module compiled against ABI version 0x1000009 but this is 0x2000000"),
            "a build for another numpy",
            "`pip install --upgrade opencv-python`",
        ),
        (
            ImportError("ERROR: recursion is detected during loading of cv2"),
            "recursion is detected",
            "`pip uninstall -y opencv-python && pip install opencv-python`",
        ),
    ],
)
def test_the_other_causes_are_told_apart(error, found, fix):
    message = str(explain_failure(error))
    assert message.startswith("OpenCV does not import: found ")
    assert found in message
    assert fix in message


def run_verb(folder):
    """The verb in a fresh process that finds the folder's cv2 first."""
    return subprocess.run(
        [sys.executable, "-c", VERB],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f"raise ImportError('{LOADER.format('libGL.so.1')}')", "no libGL.so.1"),
        (
            "import sys\nsys.stderr.write('A module that was compiled using NumPy 1.x\\n')\n"
            "raise ImportError('numpy.core.multiarray failed to import')",
            "a build for another numpy",
        ),
        ("import cv2.gone", "No module named 'cv2.gone'"),
        ("raise AttributeError('DictValue')", "DictValue"),
    ],
)
def test_a_verb_that_needs_a_broken_opencv_ends_in_one_line(tmp_path, source, found):
    (tmp_path / "cv2").mkdir()
    (tmp_path / "cv2" / "__init__.py").write_text(source)
    ended = run_verb(tmp_path)
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"relo-edge: OpenCV does not import: found {found}")
    assert (ended.returncode, ended.stdout) == (1, "")


@pytest.mark.slow
def test_the_folder_that_an_uninstall_leaves_is_no_opencv(tmp_path):
    (tmp_path / "cv2.py").write_text("")
    ended = run_verb(tmp_path)
    assert "a cv2 folder without its code" in ended.stderr
    assert ended.returncode == 1


def test_what_a_working_opencv_says_on_import_is_not_swallowed(tmp_path):
    source = "import sys\nsys.stderr.write('a word\\n')\ndef getBuildInformation(): ...\n"
    (tmp_path / "cv2.py").write_text(source)
    ended = run_verb(tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "seen\n", "a word\n")
