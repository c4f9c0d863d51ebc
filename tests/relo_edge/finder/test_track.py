"""`track --find` as a user meets it: the same track as from the box, or one line."""

import json
import threading
import time

import numpy as np
import pytest
from clips import StillRuntime
from models import MODEL, fail, read_pictures, read_words, send_body, serve_model
from verbs import run_verb

from relo_edge.errors import FinderError, InputError
from relo_edge.finder import chat
from relo_edge.finder.find_again import FindAgain
from relo_edge.finder.finders import FinderRequest, open_finder
from relo_edge.finder.search import parse_find
from relo_edge.host.opencv import cv2
from relo_edge.synthetic.clip import make_clip
from relo_edge.tracker import MultiTracker
from relo_edge.tracking.loop import track_feed
from relo_edge.tracking.target_files import TargetStart
from relo_edge.video.feed import Feed, FeedFrame
from relo_edge.video.live import read_live
from relo_edge.video.opening import FrameSource

FRAMES, SIZE = 6, (336, 252)
BOX = (112.0, 63.0, 56.0, 126.0)

SAID = {
    "pixels": ("pixels", '{"bbox_2d": [112, 63, 168, 189]}'),
    "by the model's name": ("auto", "[112, 63, 168, 189]"),
    "thousandths": ("thousand", "[333.3333333333333, 250, 500, 750]"),
    "thinking": ("pixels", "<think>[1,2,3,4]?</think><answer>[112, 63, 168, 189]</answer>"),
    "fenced": ("pixels", '```json\n[{"bbox_2d": [112, 63, 168, 189], "label": "car"}]\n```'),
}


@pytest.fixture(autouse=True)
def somewhere(monkeypatch, tmp_path):
    monkeypatch.setattr(chat, "PAUSES", (0.01,))
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    for number, frame in enumerate(make_clip(3, FRAMES, SIZE).frames()):
        assert cv2.imwrite(str(folder / f"{number}.png"), frame)
    return folder


@pytest.fixture
def track(capsys, small_bundle, clip):
    def run(*words):
        words = ["--bundle", small_bundle.path, "--runtime", "onnxruntime", *words]
        return run_verb(capsys, "track", clip, *words)

    return run


def read_table(path):
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return [row[1] for row in rows], np.array([row[2:] for row in rows], float)


@pytest.mark.slow
@pytest.mark.parametrize(("units", "said"), SAID.values(), ids=SAID)
def test_a_found_target_is_tracked_as_a_given_one(track, tmp_path, units, said):
    given, found = tmp_path / "given.csv", tmp_path / "found.csv"
    assert track("--init", "car=112,63,56,126", "--boxes", given)[0] == 0
    with serve_model(said) as server:
        code, _, err = track(
            *("--find", "car=the red car", "--finder", server.url),
            *("--finder-units", units, "--boxes", found),
        )
    assert (code, "found car ('the red car') at 112,63,56,126" in err) == (0, True)
    names, table = read_table(found)
    assert names == ["car"] * FRAMES
    assert np.allclose(table, read_table(given)[1], atol=1e-4 if units == "thousand" else 0)
    (request,) = server.requests
    assert read_pictures(request)[0].shape == (252, 336, 3)
    words = read_words(request)
    assert "the red car" in words
    assert ("thousandths" in words) == (units == "thousand")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.csv", "given.csv"]


def test_several_finds_beside_a_box(track, tmp_path):
    with serve_model("[112, 63, 168, 189]", "[10, 20, 60, 90]") as server:
        words = ("--find", "the car", "--find", "dog=a=b", "--finder", server.url)
        code, out, _ = track("--init", "5,5,40,40", *words, "--boxes", "o.csv", "--json")
    assert (code, json.loads(out)["targets"]) == (0, 3)
    names, table = read_table(tmp_path / "o.csv")
    assert names[:3] == ["0", "1", "dog"]
    assert table[:3, :4].tolist() == [[5, 5, 40, 40], list(BOX), [10, 20, 50, 70]]
    assert ["the car" in read_words(one) for one in server.requests] == [True, False]
    assert "a=b" in read_words(server.requests[1])


REFUSED = {
    "no box": ("I see none.", "the finder's answer: found 'I see none.'"),
    "not there": ('{"bbox_2d": null}', "the model sees no such target; use other words"),
    "two": ("[[1,2,30,40],[5,6,70,80]]", "found 2 boxes, expected a single box"),
    "NaN": ("[NaN, 2, 30, 40]", "the finder's answer: found"),
    "outside": ("[100, 100, 900, 900]", "outside the picture: found 100,100 to 900,900"),
    "echo": (lambda h: read_words(h.request_json), "the finder's answer: found 'Where in"),
    "500": (fail(500), "refuses the request: found status 500"),
    "HTML": (lambda h: send_body(h, 200, b"<html>", "text/html"), "is not JSON"),
}


@pytest.mark.parametrize(("said", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_found_ends_in_one_line(track, tmp_path, said, message):
    with serve_model(said) as server:
        code, out, err = track("--find", "the car", "--finder", server.url, "--boxes", "o.csv")
    *_, line = err.splitlines()
    assert (code, out) == (1, "")
    assert line.startswith("relo-edge: --find 'the car': ")
    assert message in line
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


WRONG = {
    "no finder": (["--find", "car"], "--find needs a finder; add --finder URL"),
    "no words": (["--finder", "http://h"], "the finder has nothing to find; add --find WORDS"),
    "empty": (["--find", " ", "--finder", "http://h"], "--find: found '', expected 1 to 200"),
    "name": (["--find", "=car", "--finder", "http://h"], "target's name: found ''"),
    "twice": (
        ["--find", "a=x", "--find", "a=y", "--finder", "http://h"],
        "two targets are called 'a'",
    ),
    "address": (["--find", "car", "--finder", "h:80"], "finder's address: found 'h:80'"),
    "units": (
        ["--find", "car", "--finder", "http://h", "--finder-units", "inch"],
        "--finder-units: found 'inch', expected auto | pixels | thousand",
    ),
    "timeout": (
        ["--find", "car", "--finder", "http://h", "--finder-timeout", "nan"],
        "--finder-timeout: found nan",
    ),
    "again alone": (["--init", "1,2,30,40", "--find-again", "3"], "nothing to find; add --find"),
    "again without recovery": (
        ["--find", "car", "--finder", "http://h", "--find-again", "3"],
        "--find-again needs --recover",
    ),
    "again too often": (
        ["--find", "car", "--finder", "http://h", "--recover", "--find-again", "0"],
        "--find-again: found 0.0",
    ),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_told_before_anything_is_opened(track, words, message):
    code, _, err = track(*words)
    assert code == 2
    assert message in err


def test_units_that_a_name_does_not_tell(track):
    with serve_model("[1,2,3,4]", models=["llava"]) as server:
        code, _, err = track("--find", "car", "--finder", server.url)
    assert (code, server.requests) == (2, [])
    assert "the coordinates of 'llava' are not known by its name; give --finder-units" in err


def test_a_second_answer_checks_the_first():
    frame = np.zeros((600, 1000, 3), np.uint8)
    with serve_model("[200, 200, 500, 400]") as server:
        request = FinderRequest(server.url, "thousand", check=True)
        assert open_finder(request).find(frame, "car") == (200, 120, 300, 120)
        # Of a model that answers in thousandths, read as pixels of two pictures.
        wrong = open_finder(FinderRequest(server.url, "pixels", check=True))
        with pytest.raises(FinderError, match=r"name different boxes: found an overlap of 0\.\d\d"):
            wrong.find(frame, "car")
    sizes = [read_pictures(one)[0].shape[:2] for one in server.requests]
    assert sizes == [(588, 1008), (448, 756)] * 2


def test_pictures_that_leave_the_machine_are_told(caplog):
    with caplog.at_level("INFO", "relo_edge"):
        open_finder(FinderRequest("http://127.0.0.1:8000"))
        assert not caplog.records
        open_finder(FinderRequest("https://models.example"))
    assert "a picture of the source is sent to https://models.example:443" in caplog.text


def test_names_and_words():
    assert parse_find("the red car", 3).name == 3
    one = parse_find("car= the red car ", 3)
    assert (one.name, one.words) == ("car", "the red car")
    for text in ("a" * 201, "a\nb", "x=\x1b[0m", "\ud800"):
        with pytest.raises(InputError, match="--find: found"):
            parse_find(text, 0)


class Never:
    """Nobody presses Ctrl-C."""

    def wait(self, _seconds):
        return False


class ScriptedFinder:
    """Answers in turn; None is an answer without a box."""

    def __init__(self, *boxes):
        self.boxes, self.asked = list(boxes), []

    def find(self, frame, words):
        self.asked.append((int(frame[0, 0, 0]), words))
        box = self.boxes.pop(0)
        if box is None:
            raise FinderError("the model sees no such target")
        return box


def make_frame(number, time):
    return FeedFrame(number, np.full((8, 8, 3), number, np.uint8), time)


def test_lost_targets_are_asked_for_at_most_every_so_often(caplog):
    finder = ScriptedFinder(None, BOX)
    again = FindAgain(finder, {"car": "the car"}, 2.0, wait=True)
    seen = {n: again.seek(["car"], make_frame(n, n * 0.5), Never()) for n in range(6)}
    assert [n for n, _ in finder.asked] == [0, 4]
    name, frame, box = seen.pop(4)
    assert (name, frame.number, box) == ("car", 4, BOX)
    assert set(seen.values()) == {None}
    assert "'the car' is not found again: the model sees no such target" in caplog.text
    assert again.seek(["dog"], make_frame(9, 99.0), Never()) is None


def test_lost_targets_take_turns():
    """Only the first was ever asked for."""
    finder = ScriptedFinder(None, None, None, BOX, BOX)
    again = FindAgain(finder, {"car": "car", "dog": "dog", "man": "man"}, 1.0, wait=True)
    lost = ["car", "dog"]
    for number in range(4):
        found = again.seek(lost, make_frame(number, number), Never())
    assert [words for _, words in finder.asked] == ["car", "dog", "car", "dog"]
    assert (found[0], found[1].number) == ("dog", 3)
    # One that was never asked for comes first.
    assert again.seek(["car", "dog", "man"], make_frame(4, 4.0), Never())[0] == "man"


def test_a_camera_does_not_wait_for_the_answer():
    gate = threading.Event()

    class SlowFinder(ScriptedFinder):
        def find(self, frame, words):
            gate.wait(5)
            return super().find(frame, words)

    finder = SlowFinder(BOX, BOX)
    again = FindAgain(finder, {"car": "the car", "dog": "dog"}, 1.0, wait=False)
    assert again.seek(["car"], make_frame(0, 0.0), Never()) is None
    # One question at a time, however long its answer takes.
    assert again.seek(["car", "dog"], make_frame(1, 9.0), Never()) is None
    gate.set()
    found = None
    while found is None:
        found = again.seek(["car"], make_frame(2, 9.2), Never())
    assert (found[0], found[1].number, found[2]) == ("car", 0, BOX)
    assert len(finder.asked) == 1
    gate.clear()
    # Followed again meanwhile: the answer that comes is of no interest.
    assert again.seek(["car"], make_frame(3, 15.0), Never()) is None
    assert again.seek([], make_frame(4, 15.1), Never()) is None
    gate.set()
    while again._question:
        assert again.seek(["car"], make_frame(5, 15.2), Never()) is None


def test_the_model_is_named(track):
    with serve_model("[112, 63, 168, 189]") as server:
        assert track("--find", "car", "--finder", f"{server.url}#{MODEL}")[0] == 0
    assert server.paths == ["/v1/chat/completions"]


@pytest.mark.parametrize("live", [False, True])
def test_a_lost_target_is_started_again_where_it_is_found(live):
    finder = ScriptedFinder(BOX)
    frames = [np.full((252, 336, 3), 10 * n, np.uint8) for n in range(8)]
    source = FrameSource("made", (frame for frame in frames), 10.0, len(frames))
    tracker = MultiTracker(StillRuntime(sure=False), color="bgr")
    seen = []
    with read_live(lambda: source) as reader:
        again = FindAgain(finder, {"car": "the car"}, 60.0, wait=not live)
        if live:
            again.seek = wait_for_answer(again.seek)
        track_feed(
            Feed(reader),
            tracker,
            [TargetStart((5.0, 5.0, 40.0, 40.0), "car")],
            find_again=again,
            on_tracks=lambda frame, tracks: seen.append(tracks["car"]),
        )
    # Lost in the third doubtful frame; asked once, and followed from the box that was found.
    assert finder.asked == [(30, "the car")]
    assert [track.lost for track in seen[:3]] == [False] * 3
    assert seen[2].box == pytest.approx((5, 5, 40, 40), abs=0.5)
    where = 4 if live else 3
    if not live:
        assert (seen[3].box, seen[3].score, seen[3].lost) == (BOX, 1.0, False)
    assert seen[where + 1].box[:2] == pytest.approx((84, 80), abs=60)
    assert seen[-1].box[0] > 60


def test_each_of_two_lost_targets_is_asked_for():
    finder = ScriptedFinder(None, BOX, None, BOX)
    frames = [np.full((252, 336, 3), 10 * n, np.uint8) for n in range(7)]
    source = FrameSource("made", (frame for frame in frames), 10.0, len(frames))
    seen = []
    with read_live(lambda: source) as reader:
        track_feed(
            Feed(reader),
            MultiTracker(StillRuntime(sure=False, batch=2), color="bgr"),
            [TargetStart((5.0, 5.0, 40.0, 40.0), name) for name in ("car", "dog")],
            find_again=FindAgain(finder, {"car": "a car", "dog": "a dog"}, 0.1, wait=True),
            on_tracks=lambda frame, tracks: seen.append(tracks),
        )
    assert finder.asked[:2] == [(30, "a car"), (40, "a dog")]
    assert (seen[4]["dog"].box, seen[4]["dog"].score) == (BOX, 1.0)
    assert seen[4]["car"].lost


def wait_for_answer(seek):
    """As on a camera whose next frame comes after the answer."""

    def seek_late(lost, frame, stop):
        found = seek(lost, frame, stop)
        time.sleep(0.05)
        return found

    return seek_late
