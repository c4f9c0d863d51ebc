"""OpenCV's abilities, from recorded build texts."""

import pytest

from relo_edge.doctor import evidence
from relo_edge.doctor.subprocesses import Answer
from relo_edge.doctor.vision import judge_opencv

SITE = "/venv/lib/python3.12/site-packages"

HEADLESS = """
  GUI:                           NONE

  Video I/O:
    DC1394:                      NO
    FFMPEG:                      YES
    GStreamer:                   NO
"""

JETPACK = """
  GUI:                           GTK2
    GTK+:                        YES (ver 2.24.33)

  Video I/O:
    FFMPEG:                      YES
    GStreamer:                   YES (1.20.3)
    v4l/v4l2:                    YES (linux/videodev2.h)
"""

OPENCV_4_2 = """
  GUI:
    QT:                          NO
    GTK+:                        YES (ver 3.24.20)
    VTK support:                 YES (ver 7.1.1)

  Video I/O:
    FFMPEG:                      NO
      avcodec:                   NO
    GStreamer:                   NO
"""

BARE_4_2 = "  GUI: \n    GTK+:                        NO\n\n"


def judge(evidence):
    return {finding.subject: finding for finding in judge_opencv(evidence)}


def build(text, file=f"{SITE}/cv2/__init__.py"):
    return {"opencv": Answer({"version": "4.8.0", "file": file, "build": text})}


def test_a_wheel_is_told_by_name_and_what_it_opens(record):
    findings = judge(record())
    assert findings["opencv"].detail == "5.0.0, wheel opencv-python 5.0.0.93"
    assert {name: finding.mark for name, finding in findings.items()} == {
        "opencv": "ok",
        "gui": "ok",
        "ffmpeg": "ok",
        "gstreamer": "missing",
    }
    assert findings["gui"].detail == "windows open with QT5"


def test_the_systems_opencv_is_told_by_its_place(record):
    file = "/usr/lib/python3.10/dist-packages/cv2/__init__.py"
    findings = judge(record(build(JETPACK, file)))
    assert findings["opencv"].detail == f"4.8.0, {file}"
    assert findings["gui"].detail == "windows open with GTK2"
    assert (findings["gstreamer"].mark, findings["gstreamer"].detail) == ("ok", "1.20.3")


def test_pipelines_run_in_gstreamers_own_command_where_it_is(record):
    found = judge(record(gst_launch="/usr/bin/gst-launch-1.0"))["gstreamer"]
    assert (found.mark, found.detail) == ("ok", "pipelines run in /usr/bin/gst-launch-1.0")
    found = judge(record())["gstreamer"]
    assert found.mark == "missing"
    assert "gstreamer1.0-tools" in found.fix


def test_the_command_is_looked_for(tmp_path, monkeypatch):
    command = tmp_path / "gst-launch-1.0"
    command.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(evidence, "ask_children", lambda probes: {})
    assert evidence.collect_evidence().gst_launch == str(command)


def test_a_headless_build_is_warned_of(record):
    findings = judge(record(build(HEADLESS), ["opencv-python-headless 4.8.0.76"]))
    assert findings["opencv"].detail == "4.8.0, wheel opencv-python-headless 4.8.0.76"
    assert findings["gui"].mark == "warning"
    assert "--show" in findings["gui"].detail


@pytest.mark.parametrize(("text", "mark"), [(OPENCV_4_2, "ok"), (BARE_4_2, "warning")])
def test_an_old_build_names_its_gui_below_the_heading(record, text, mark):
    assert judge(record(build(text)))["gui"].mark == mark


def test_a_build_without_ffmpeg_is_warned_of(record):
    assert judge(record(build(OPENCV_4_2)))["ffmpeg"].mark == "warning"


def test_a_broken_opencv_is_one_line_and_its_fix(record):
    line = "OpenCV does not import: found no libGL.so.1 on this system; `apt-get install libgl1`"
    findings = judge(record({"opencv": Answer(failure=line)}))
    assert list(findings) == ["opencv"]
    assert findings["opencv"].mark == "missing"
    assert findings["opencv"].detail.endswith("found no libGL.so.1 on this system")
    assert findings["opencv"].fix == "`apt-get install libgl1`"


def test_an_opencv_that_crashes_has_a_fix_too(record):
    crash = Answer(failure="importing it crashes (SIGSEGV)")
    assert "pip install opencv-python" in judge(record({"opencv": crash}))["opencv"].fix
