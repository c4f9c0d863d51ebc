"""The verb as a user meets it: its verdict, its exit code, its two ways to print."""

import json
import subprocess
import sys

import pytest

from relo_edge.cli import main
from relo_edge.doctor import judge_evidence
from relo_edge.doctor.report import advise_user, print_json, print_report
from relo_edge.doctor.subprocesses import Answer

ABSENT = Answer(failure="No module named 'x'", absent=True)
NO_RUNTIME = {"pytorch": ABSENT, "onnxruntime": ABSENT, "openvino": ABSENT}
NO_OPENCV = {"opencv": Answer(failure="OpenCV does not import; `apt-get install libgl1`")}


@pytest.mark.parametrize(
    ("answers", "advice"),
    [
        ({}, "This machine can track with onnxruntime, openvino, pytorch."),
        (
            NO_RUNTIME,
            "Nothing can track here yet. Do this: `pip install 'relo-edge[cpu]'`",
        ),
        (NO_OPENCV, "Nothing can track here yet. Do this: `apt-get install libgl1`"),
        (
            NO_RUNTIME | NO_OPENCV,
            "Nothing can track here yet. Do this: `apt-get install libgl1`; "
            "then `pip install 'relo-edge[cpu]'`",
        ),
    ],
)
def test_the_verdict_says_what_to_do(record, answers, advice):
    diagnosis = judge_evidence(record(answers))
    assert advise_user(diagnosis) == advice
    assert diagnosis.can_track == (not answers)


@pytest.mark.parametrize(("answers", "code"), [({}, None), (NO_RUNTIME, 1), (NO_OPENCV, 1)])
def test_the_exit_code_says_whether_anything_tracks(record, monkeypatch, capsys, answers, code):
    monkeypatch.setattr("relo_edge.doctor.collect_evidence", lambda: record(answers))
    monkeypatch.setattr(sys, "argv", ["relo-edge", "doctor"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == code
    assert capsys.readouterr().err == ""


def test_the_report_is_a_line_for_each_finding_and_its_fix_unbroken(record, capsys):
    diagnosis = judge_evidence(record(NO_RUNTIME))
    print_report(diagnosis)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for finding in diagnosis.findings:
        start = f"{finding.mark:<7}  {finding.subject}"
        assert any(line.startswith(start) and line.endswith(finding.detail) for line in lines)
        assert not finding.fix or f"fix: {finding.fix}" in lines
    assert lines[-1] == advise_user(diagnosis)


def test_json_holds_the_same_findings(record, capsys):
    diagnosis = judge_evidence(record())
    print_json(diagnosis)
    printed = json.loads(capsys.readouterr().out)
    assert printed["can_track"] is True
    assert printed["runtimes"] == ["onnxruntime", "openvino", "pytorch"]
    assert len(printed["findings"]) == len(diagnosis.findings)
    assert set(printed["findings"][0]) == {"section", "subject", "mark", "detail", "fix"}


@pytest.mark.slow
def test_doctor_examines_this_machine_without_loading_what_it_examines():
    script = (
        "import sys\nfrom relo_edge.cli import main\n"
        "sys.argv = ['relo-edge', 'doctor', '--json']\n"
        "try:\n    main()\nfinally:\n"
        "    heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'cv2', 'numpy'}\n"
        "    print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    printed = json.loads(ended.stdout)
    assert ended.returncode == (0 if printed["can_track"] else 1)
    assert ended.stderr == "[]\n"
    assert {f["section"] for f in printed["findings"]} == {
        "machine",
        "gpu",
        "opencv",
        "runtimes",
        "packages",
    }


def test_help_ends_in_an_example(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["relo-edge", "doctor", "--help"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.rstrip().endswith("Example: relo-edge doctor --json")
