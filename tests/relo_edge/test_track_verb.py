"""`relo-edge track` as a user meets it: in its own process, killed and interrupted too."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import StillRuntime, count_frames, write_images, write_video
from verbs import run_verb

from relo_edge import cli

HELPERS = Path(__file__).parents[1] / "helpers"

# The real command with a runtime that needs no weights and is slow enough to be caught.
CHILD = f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
import relo_edge.runtime
from clips import StillRuntime
relo_edge.runtime.open_runtime = lambda *_, batch, **__: StillRuntime(seconds=0.05, batch=batch)
from relo_edge.cli import main
main()
"""


@pytest.fixture
def clip(tmp_path):
    return write_video(tmp_path / "clip.mp4", frames=12)


@pytest.fixture
def run(monkeypatch, capfd):
    """Run a command line in this process; its exit code, stdout and stderr."""
    opened = []

    def open_fake(*_, batch, **__):
        opened.append(StillRuntime(batch=batch))
        return opened[-1]

    monkeypatch.setattr("relo_edge.pipeline.tracking.open_runtime", open_fake)

    def run_verb(*arguments):
        monkeypatch.setattr(sys, "argv", ["relo-edge", "track", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert all(runtime.closed for runtime in opened)
        return ended.value.code or 0, *capfd.readouterr()

    return run_verb


def start_child(tmp_path, clip):
    outputs = ["--save", str(tmp_path / "out.mp4"), "--boxes", str(tmp_path / "out.csv")]
    track = ["track", str(clip), "--bundle", "b", "--init", "30,20,24,18", "--json", *outputs]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *track],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while count_rows(tmp_path / "out.csv") < 5:
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.02)
    return child


def count_rows(path):
    return max(path.read_text().count("\n") - 1, 0) if path.exists() else 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.mp4", "out.csv"])
def test_a_second_run_on_one_output_is_refused_and_the_first_goes_on(tmp_path, clip, run, name):
    child = start_child(tmp_path, write_video(tmp_path / "long.mp4", frames=40))
    option = "--save" if name == "out.mp4" else "--boxes"
    code, _, err = run(clip, "--bundle", "b", "--init", "30,20,24,18", option, tmp_path / name)
    assert (code, err.count("\n")) == (2, 1)
    assert f"is being written: found process {child.pid}; wait" in err
    _, err = child.communicate(timeout=60)
    assert child.returncode == 0, err
    assert count_rows(tmp_path / "out.csv") == 40
    assert count_frames(tmp_path / "out.mp4") == 40
    assert not list(tmp_path.glob(".*"))


@pytest.mark.slow
def test_interrupted_run_keeps_whole_files(tmp_path):
    child = start_child(tmp_path, write_video(tmp_path / "clip.mp4", frames=40))
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    summary = json.loads(out)
    assert summary["interrupted"] is True
    assert summary["outputs"] == [str(tmp_path / "out.mp4"), str(tmp_path / "out.csv")]
    assert 5 <= summary["frames"] < 40
    assert count_rows(tmp_path / "out.csv") == count_frames(tmp_path / "out.mp4")
    assert count_rows(tmp_path / "out.csv") == summary["frames"]
    *_, tracking, verdict = err.splitlines()  # without ffmpeg, a word on the codec comes first
    assert tracking.startswith("tracking clip.mp4:")
    assert verdict == "relo-edge: interrupted"


@pytest.mark.slow
def test_killed_run_leaves_no_half_video_and_whole_rows(tmp_path):
    (tmp_path / "out.mp4").write_bytes(b"last week's")
    child = start_child(tmp_path, write_video(tmp_path / "clip.mp4", frames=40))
    child.kill()
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGKILL
    assert (tmp_path / "out.mp4").read_bytes() == b"last week's"
    rows = (tmp_path / "out.csv").read_text()
    assert rows.endswith("\n")
    assert {line.count(",") for line in rows.splitlines()} == {8}


def test_track_reports_in_words(run, clip, tmp_path):
    code, out, err = run(
        clip, "--bundle", "b", "--init", "30,20,24,18", "--boxes", tmp_path / "o.json"
    )
    assert code == 0
    assert out.startswith("12 frames, ")
    assert out.endswith(f"wrote {tmp_path / 'o.json'}\n")
    assert "tracking clip.mp4: 12 frames" in err


def test_track_reports_as_json(run, tmp_path):
    write_images(tmp_path / "walk" / "img", ["1.png", "2.png"])
    code, out, _ = run(
        tmp_path / "walk", "--checkpoint", "c.pth", "--init", "30,20,24,18", "--json"
    )
    summary = json.loads(out)
    assert (code, summary["frames"], summary["outputs"]) == (0, 2, [])
    assert set(summary) == {
        "frames",
        "targets",
        "dropped",
        "fps",
        "tracker_fps",
        "mean_confidence",
        "lost_frames",
        "interrupted",
        "outputs",
        "runtime",
        "precision",
        "device",
        "bundle",
    }
    assert (summary["runtime"], summary["bundle"]) == ("still", None)


WRONG = {
    "three numbers": (["--init", "1,2,3"], "--init: found '1,2,3', expected four numbers"),
    "outside": (["--init", "200,20,24,18"], "box outside the frame: found 200,20,24,18"),
    "no area": (["--init", "30,20,0,18"], "expected a width and height above 0"),
    "not finite": (["--init", "nan,20,24,18"], "expected finite numbers"),
    "protocol": (["--init", "30,20,24,18", "--protocol", "kitti"], "protocol: found kitti"),
    "video": (["--init", "30,20,24,18", "--save", "o.gif"], "found .gif, expected .mp4 or .webm"),
    "boxes": (["--init", "30,20,24,18", "--boxes", "o.yaml"], "expected .csv or .json or .jsonl"),
    "no target": ([], "no target to track; give --init"),
    "twice": (["--init", "a=1,2,3,4", "--init", "a=1,2,3,4"], "two targets are called 'a'"),
    "heatmap": (["--init", "30,20,24,18", "--heatmap"], "--heatmap has no picture to draw on"),
    "one file twice": (
        ["--init", "30,20,24,18", "--boxes", "o.csv", "--boxes", "o.csv"],
        "output 'o.csv' is named twice",
    ),
    "before the start": (["--init", "1,2,3,4", "--start", "-1"], "--start: found -1"),
}


@pytest.mark.parametrize(("options", "message"), WRONG.values(), ids=WRONG)
def test_wrong_use_is_one_line_and_exit_2(run, clip, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(clip, "--bundle", "b", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.slow
def test_no_weights_is_one_line_and_exit_2(clip):
    command = [sys.executable, "-m", "relo_edge", "track", str(clip), "--init", "30,20,24,18"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout, child.stderr.count("\n")) == (2, "", 1)
    assert "a bundle or a checkpoint is needed" in child.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--targets", "1"], "--init: found 2 boxes, expected at most 1; give --targets 2"),
        (["--recordings", "clip.mp4"], "recordings 'clip.mp4': found a file, expected a folder"),
    ],
)
def test_serve_says_before_it_opens_what_will_not_do(capsys, clip, monkeypatch, options, message):
    monkeypatch.chdir(clip.parent)
    boxes = ["--init", "30,20,24,18", "--init", "9,9,24,18"]
    code, out, err = run_verb(capsys, "serve", clip, "--bundle", "nowhere", *boxes, *options)
    assert (code, out) == (2, "")
    assert message in err


def test_boxes_from_a_folder_are_refused_as_such(capsys, clip):
    words = ["track", clip, "--bundle", "nowhere", "--init-from", clip.parent]
    code, _, err = run_verb(capsys, *words)
    assert (code, "found a folder, expected boxes in" in err) == (2, True)


def test_damaged_video_is_one_line_and_exit_1(run, tmp_path):
    (tmp_path / "bad.mp4").write_bytes(os.urandom(2000))
    code, out, err = run(tmp_path / "bad.mp4", "--bundle", "b", "--init", "30,20,24,18")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "cannot be opened" in err


def test_many_targets_from_the_command_line_and_a_file(run, clip, tmp_path):
    (tmp_path / "t.json").write_text('{"dog": {"box": [5, 5, 20, 20], "frame": 4, "until": 8}}')
    words = ["--init", "car=30,20,24,18", "--init", "10,10,20,20", "--start", "2"]
    words += ["--init-from", tmp_path / "t.json", "--boxes", tmp_path / "o.mot.txt", "--recover"]
    code, out, _ = run(clip, "--bundle", "b", *words, "--json")
    assert (code, json.loads(out)["targets"], json.loads(out)["frames"]) == (0, 3, 10)
    rows = [line.split(",") for line in (tmp_path / "o.mot.txt").read_text().splitlines()]
    spans = {who: [int(row[0]) for row in rows if row[1] == who] for who in "123"}
    assert spans == {"1": list(range(3, 13)), "2": list(range(3, 13)), "3": [5, 6, 7, 8]}


def test_a_start_frame_that_never_comes_is_one_line_and_exit_1(run, clip, tmp_path):
    starts = tmp_path / "t.json"
    starts.write_text('{"car": {"box": [30, 20, 24, 18], "frame": 500}}')
    words = ["--bundle", "b", "--init-from", starts, "--boxes", tmp_path / "o.csv"]
    code, out, err = run(clip, *words)
    assert (code, out) == (1, "")
    assert "'car' was never started: found no frame 500 in clip.mp4, whose last is 11;" in err
    code, out, err = run(clip, *words, "--init", "30,20,24,18")
    assert (code, out.count("12 frames")) == (0, 1)
    assert err.count("'car' was never started") == 1


def test_what_is_read_is_never_written_over(run, clip, tmp_path):
    truth = tmp_path / "groundtruth.txt"
    truth.write_text("30,20,24,18\n")
    boxes = tmp_path / "b.csv"
    boxes.write_text("30,20,24,18\n")
    for path, word in (
        (truth, "found ground truth"),
        (boxes, "the source itself, or another input"),
    ):
        code, _, err = run(clip, "--bundle", "b", "--init-from", boxes, "--boxes", path)
        assert code == 2
        assert word in err
        assert path.read_text() == "30,20,24,18\n"


def test_a_file_that_is_replaced_is_named_first(run, clip, tmp_path):
    boxes, labels = tmp_path / "b.csv", tmp_path / "b.xml"
    boxes.write_text("another program's work\n")
    words = [clip, "--bundle", "b", "--init", "30,20,24,18", "--boxes", boxes, "--boxes", labels]
    _, _, err = run(*words, "--start", "9999")
    told = "b.csv is there already: it will be replaced"
    assert told in err
    assert boxes.read_text() == "another program's work\n"
    code, _, err = run(*words)
    assert (code, err.count("will be replaced")) == (0, 1)
    assert told in err.splitlines()[0]
    assert boxes.read_text().startswith("frame,target")
    assert run(*words)[2].count("will be replaced") == 2


def test_a_screen_is_asked_for_only_where_needed(run, clip, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    code, out, err = run(clip, "--bundle", "b", "--select")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "no window can be shown" in err


def test_boxes_on_stdout_are_lines_for_another_program(run, clip):
    code, out, err = run(clip, "--bundle", "b", "--init", "car=30,20,24,18", "--boxes", "-")
    assert code == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["frame"] for row in rows] == list(range(12))
    assert {row["target"] for row in rows} == {"car"}
    assert "12 frames" in err
    assert "wrote" not in err


def test_json_goes_aside_when_boxes_take_stdout(run, clip):
    code, out, err = run(clip, "--bundle", "b", "--init", "30,20,24,18", "--boxes", "-", "--json")
    assert code == 0
    assert len(out.splitlines()) == 12
    assert json.loads(err.splitlines()[-1])["frames"] == 12


def test_stdout_is_taken_once(run, clip):
    words = ["--bundle", "b", "--init", "30,20,24,18", "--boxes", "-", "--boxes", "-"]
    code, out, err = run(clip, *words)
    assert (code, out) == (2, "")
    assert "--boxes - is given twice" in err


@pytest.mark.slow
def test_a_reader_that_has_gone_ends_the_run_quietly(tmp_path):
    clip = write_video(tmp_path / "clip.mp4", frames=12)
    words = ["track", clip, "--bundle", "b", "--init", "30,20,24,18", "--boxes", "-"]
    command = [sys.executable, "-c", CHILD, *map(str, words)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert json.loads(run.stdout.readline())["frame"] == 0
        run.stdout.close()
        err = run.stderr.read()
    assert run.returncode == 1
    assert "Traceback" not in err


@pytest.mark.parametrize("name", ["a.xml", "a.labelstudio.json", "a.coco.json"])
def test_labels_are_written_beside_boxes(run, clip, tmp_path, name):
    files = [word for file in (name, "a.csv") for word in ("--boxes", tmp_path / file)]
    code, out, _ = run(clip, "--bundle", "b", "--init", "30,20,24,18", *files)
    assert code == 0
    assert f"wrote {tmp_path / name}" in out
    assert (tmp_path / name).stat().st_size > 500


@pytest.mark.slow
@pytest.mark.parametrize(("more", "told"), [((), True), (("--boxes", "out.csv"), False)])
def test_a_run_that_keeps_nothing_says_so(tmp_path, capsys, monkeypatch, more, told):
    monkeypatch.chdir(tmp_path)
    words = ("synthetic:frames=3,fps=100", "--bundle", "demo", "--init", "9,9,20,20")
    code, _, err = run_verb(capsys, "track", *words, *more)
    assert (code, "nothing written; --boxes" in err) == (0, told)
