"""`track` under any command line: an answer or one line, no traceback, no stray file, no hang."""

import sys

import pytest
from cameras import list_additions, list_holdings
from clips import StillRuntime, write_images, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relo_edge import cli

numbers = st.one_of(
    st.integers(-5, 100).map(str),
    st.floats().map(str),
    st.sampled_from(["", "x", "1e999", "-0", "nan", "inf", "1_0", "٣"]),
)
boxes = st.one_of(
    st.lists(numbers, max_size=6).map(",".join),
    st.text(max_size=12),
    st.just("30,20,24,18"),
    st.just("car=10,10,30,30"),
)
good_sources = st.sampled_from(
    ["clip.mp4", "walk", "walk/*.png", "synthetic:frames=3,fps=240,size=64x64"]
)
bad_sources = st.one_of(
    st.sampled_from(
        [
            *("synthetic:size=9x9", "torn.mp4", "empty", "63", "csi:77", "nosuch ! videoconvert"),
            *("/dev/null", "/dev/zero", ".", "clip.mp4/", "t.json"),
        ]
    ),
    st.text(max_size=12).filter(lambda text: "://" not in text and not text.startswith("-")),
)
outputs = st.sampled_from(
    [
        *("o.mp4", "o.webm", "o.csv", "o.json", "o.jsonl", "o.txt", "o.mot.txt", "o", "clip.mp4"),
        *("no/o.mp4", "walk", "n" * 300 + ".csv", "\x00.csv", "-.csv", ".csv", "a\nb.csv"),
    ]
)
beginnings = st.sampled_from(["t.json", "t.txt", "none", "walk", "clip.mp4"])
good_options = st.one_of(
    st.just(("--init", "5,5,20,20")),
    st.just(("--init", "car=10,10,30,30")),
    st.just(("--init-from", "t.json")),
    st.tuples(st.just("--start"), st.sampled_from(["0", "1", "2"])),
    st.tuples(st.just("--boxes"), st.sampled_from(["o.csv", "o.json", "o.jsonl", "o.mot.txt"])),
    st.tuples(st.just("--save"), st.sampled_from(["o.mp4", "o.webm"])),
    st.tuples(st.sampled_from(["--recover", "--heatmap", "--json"])),
)
odd_options = st.one_of(
    st.tuples(st.just("--init"), boxes),
    st.tuples(st.just("--init-from"), beginnings),
    st.tuples(st.just("--start"), st.sampled_from(["99", "-1", "x", "9" * 30])),
    st.tuples(st.sampled_from(["--boxes", "--save"]), outputs),
    st.tuples(st.just("--protocol"), st.sampled_from(["lasot", "nope", ""])),
    st.tuples(st.sampled_from(["--nope", "--select", "--show", ""])),
)
command_lines = st.tuples(
    good_sources | good_sources | bad_sources,
    st.lists(good_options, max_size=4),
    st.just([]) | st.lists(odd_options, max_size=2),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with something to track, and a home beside it in which nothing may appear."""
    folder = tmp_path_factory.mktemp("hostile") / "place"
    folder.mkdir()
    write_video(folder / "clip.mp4", frames=4)
    write_images(folder / "walk", ["1.png", "2.png", "3.png"])
    (folder / "empty").mkdir()
    (folder / "torn.mp4").write_bytes((folder / "clip.mp4").read_bytes()[:400])
    (folder / "t.json").write_text(
        '{"dog": [5, 5, 20, 20], "cat": {"box": [9, 9, 9, 9], "frame": 1}}'
    )
    (folder / "t.txt").write_text("5,5,20,20\n6,6,20,20\n")
    return folder


def list_files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def run_track(monkeypatch, words):
    monkeypatch.setattr(sys, "argv", ["relo-edge", "track", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code or 0


@pytest.mark.slow
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(line=command_lines)
def test_any_command_line_ends_well(place, monkeypatch, capfd, line):
    source, good, odd = line
    monkeypatch.chdir(place)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)  # no ffmpeg: it is as slow as it is good
    monkeypatch.setattr(
        "relo_edge.runtime.open_runtime", lambda *_, batch, **__: StillRuntime(batch=batch)
    )
    words = [source, "--bundle", "b", *(word for option in (*good, *odd) for word in option)]
    files, held = list_files(place.parent), list_holdings()
    code = run_track(monkeypatch, words)
    out, err = capfd.readouterr()
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    if code:
        assert out == ""
        complaints = [line for line in err.splitlines() if line.startswith("relo-edge: ")]
        assert len(complaints) == 1
    named = {place / word for word in words}
    written = list_files(place.parent)
    for path in written.keys() | files.keys():
        if written.get(path) != files.get(path):
            assert path in named
            assert path not in files
            path.unlink()
    assert not list_additions(held)
