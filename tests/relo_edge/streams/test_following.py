"""`track` with several sources: files for each, one failure ends one source, Ctrl-C ends all."""

import json
import signal
import threading
from pathlib import Path

import pytest
from cameras import ScriptedCamera, list_additions, list_holdings
from clips import StillRuntime, count_frames, write_images, write_video
from verbs import run_verb

from relo_edge.box_files import BOX_COLUMNS
from relo_edge.errors import InputError, SourceError
from relo_edge.pipeline import tracking
from relo_edge.streams import following
from relo_edge.streams.jobs import SourceJob
from relo_edge.streams.sharing import SharedRuntime
from relo_edge.tracking.outputs import Sinks
from relo_edge.tracking.targets import TargetStart
from relo_edge.video.live import read_live

INIT = "30,20,24,18"
START = TargetStart((30.0, 20.0, 24.0, 18.0))


@pytest.fixture
def nothing_left():
    before = list_holdings()
    yield
    assert not list_additions(before)


@pytest.fixture
def still(monkeypatch):
    """A runtime that needs no weights; what it was opened for."""
    opened = []

    def open_fake(*_, batch, lanes=1, **__):
        opened.append((batch, lanes))
        return StillRuntime(batch=batch)

    monkeypatch.setattr("relo_edge.pipeline.tracking.open_runtime", open_fake)
    return opened


@pytest.fixture
def clips(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", frames=12)
    write_video(tmp_path / "b.mp4", frames=8)


@pytest.mark.slow
def test_each_source_has_the_files_that_it_has_alone(capsys, clips, still, tmp_path, nothing_left):
    options = ["--save", "out.mp4", "--boxes", "out.csv", "--boxes", "out.mot.txt"]
    inits = ["--init", f"street:car={INIT}", "--init", f"cam2:{INIT}", "--init", f"cam2:dog={INIT}"]
    code, out, err = run_verb(
        capsys, "track", "street=a.mp4", "b.mp4", "--bundle", "x", *inits, *options, "--json"
    )
    assert code == 0, err
    summary = json.loads(out)
    assert still[0] == (3, 2)  # three targets, and both sources computed side by side
    assert (summary["frames"], summary["failures"]) == (20, {})
    assert {name: one["frames"] for name, one in summary["sources"].items()} == {
        "street": 12,
        "cam2": 8,
    }
    alone = {"street": ("a.mp4", [f"car={INIT}"]), "cam2": ("b.mp4", [INIT, f"dog={INIT}"])}
    for name, (source, boxes) in alone.items():
        words = [word for box in boxes for word in ("--init", box)]
        run_verb(capsys, "track", source, "--bundle", "x", *words, *options)
        for ending in ("csv", "mot.txt"):
            own, single = tmp_path / f"out.{name}.{ending}", tmp_path / f"out.{ending}"
            assert own.read_text() == single.read_text()
        assert count_frames(tmp_path / f"out.{name}.mp4") == summary["sources"][name]["frames"]


def test_lines_on_stdout_name_their_source(capsys, clips, still):
    words = ["--init", f"cam1:{INIT}", "--init", f"cam2:{INIT}", "--boxes", "-"]
    code, out, err = run_verb(capsys, "track", "a.mp4", "b.mp4", "--bundle", "x", *words)
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert tuple(rows[0]) == ("source", *BOX_COLUMNS, "time")
    for name, frames in (("cam1", 12), ("cam2", 8)):
        assert [row["frame"] for row in rows if row["source"] == name] == list(range(frames))
    assert "all sources: 20 frames" in err


def test_boxes_to_start_from_are_each_sources_own(capsys, clips, still, tmp_path):
    for name in ("cam1", "cam2"):
        (tmp_path / f"from.{name}.json").write_text('{"car": [30, 20, 24, 18]}')
    words = ["--init-from", "from.json", "--json"]
    code, out, _ = run_verb(capsys, "track", "a.mp4", "b.mp4", "--bundle", "x", *words)
    assert (code, json.loads(out)["frames"]) == (0, 20)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a.mp4", "nope", "--init", f"cam1:{INIT}", "--init", f"cam2:{INIT}"], "source 'nope'"),
        (["a.mp4", "b.mp4", "--init", f"cam1:{INIT}"], "source 'cam2' has no target to track"),
        (["a.mp4", "b.mp4", "--init", INIT], "expected the source before a colon"),
        (["x=a.mp4", "x=b.mp4"], "two sources are called 'x'"),
        (["a.mp4", "b.mp4", "--select"], "--select is for one source"),
        (["a.mp4", "b.mp4", "--show"], "--show is for one source"),
        (["a.mp4", "b.mp4", "--find", "the car"], "--find is for one source"),
        (["a.mp4", "b.mp4", "--tracker", "csrt"], "--tracker is for one source"),
        (["a.mp4", "b.mp4", "--init-from", "from.json"], "from.cam1.json"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(capsys, clips, still, words, reason):
    code, out, err = run_verb(capsys, "track", *words, "--bundle", "x", "--boxes", "out.csv")
    assert (code, out) == (2, "")
    assert reason in err.splitlines()[-1]
    assert not list(Path().glob("out*"))


def test_a_source_is_not_overwritten_by_anothers_boxes(capsys, still, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4")
    write_video(tmp_path / "b.cam1.mp4")
    inits = ["--init", f"cam1:{INIT}", "--init", f"cam2:{INIT}"]
    words = ["a.mp4", "b.cam1.mp4", *inits, "--save", "b.mp4"]
    code, _, err = run_verb(capsys, "track", *words, "--bundle", "x")
    assert code == 2
    assert "the source itself, or another input" in err


def test_one_that_breaks_is_reported_and_the_others_end_well(capsys, clips, still, monkeypatch):
    broken = write_images(Path("images"), ["1.png", "2.png"])
    (broken / "3.png").write_bytes(b"no picture")
    words = ["--init", f"cam1:{INIT}", "--init", f"cam2:{INIT}", "--boxes", "out.csv"]
    code, out, err = run_verb(capsys, "track", "images", "b.mp4", "--bundle", "x", *words)
    assert code == 1
    assert "cam1 failed: " in out
    assert "source cam1 failed: " in err
    assert "cam2: 8 frames" in out


@pytest.mark.slow
def test_ctrl_c_ends_all_and_leaves_whole_files(monkeypatch, tmp_path, nothing_left):
    cameras = {name: ScriptedCamera((100_000, "end")) for name in ("one", "two", "silent")}
    cameras["silent"] = ScriptedCamera(*[(0, "hang")] * 20)
    monkeypatch.setattr(following, "read_live", lambda name: read_live(cameras[name]))
    pressed = threading.Timer(1.0, signal.raise_signal, [signal.SIGINT])
    jobs = [
        SourceJob(name, name, [START], Sinks(tmp_path / f"{name}.mp4", [tmp_path / f"{name}.csv"]))
        for name in cameras
    ]
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        pressed.start()
        runtime = StillRuntime(batch=3)
        summary = following.follow_sources(
            SharedRuntime(runtime), jobs, runtime.variant.protocol(), None
        )
    finally:
        signal.signal(signal.SIGINT, previous)
        pressed.join()
    assert summary.interrupted
    assert summary.failures == {}
    for name in ("one", "two"):
        frames = summary.sources[name].frames
        rows = (tmp_path / f"{name}.csv").read_text().count("\n") - 1
        assert frames - 1 <= rows <= frames
        assert count_frames(tmp_path / f"{name}.mp4") > 0
    assert summary.sources["silent"].frames == 0
    assert not (tmp_path / "silent.csv").exists()


def test_a_start_that_never_comes_fails_its_source_alone(capsys, clips, still, tmp_path):
    (tmp_path / "from.cam1.json").write_text('{"car": {"box": [30, 20, 24, 18], "frame": 10}}')
    (tmp_path / "from.cam2.json").write_text('{"car": {"box": [30, 20, 24, 18], "frame": 10}}')
    words = ["--init-from", "from.json", "--json"]
    code, out, _ = run_verb(capsys, "track", "a.mp4", "b.mp4", "--bundle", "x", *words)
    failures = json.loads(out)["failures"]
    assert (code, list(failures)) == (1, ["cam2"])
    assert (
        "'car' was never started: found no frame 10 in b.mp4, whose last is 7" in failures["cam2"]
    )


def test_a_bug_ends_the_run(monkeypatch, clips, still):
    def break_down(*_):
        raise ZeroDivisionError

    monkeypatch.setattr("relo_edge.tracking.outputs.Outputs.write", break_down)
    with pytest.raises(ZeroDivisionError):
        tracking.track(["a.mp4", "b.mp4"], init=[f"cam1:{INIT}", f"cam2:{INIT}"], bundle="x")


def test_the_twin_takes_one_source_or_several(clips, still):
    one = tracking.track("a.mp4", init=[INIT], bundle="x")
    named = tracking.track(["x=a.mp4"], init=[f"x:{INIT}"], bundle="x")
    assert one.frames == named.frames == 12
    many = tracking.track(["a.mp4", "b.mp4"], init=[f"cam1:{INIT}", f"cam2:{INIT}"], bundle="x")
    assert (many.frames, many.bundle) == (20, "x")
    with pytest.raises(InputError, match="no source to follow"):
        tracking.track([])
    runtime = StillRuntime()
    job = SourceJob("a", ScriptedCamera((0, "refuse")), [START], Sinks())
    with pytest.raises(SourceError, match="camera x does not open"):
        following.follow_sources(SharedRuntime(runtime), [job], runtime.variant.protocol(), None)
