"""R1-Track's crops, question and rules are those of the facts; the verbs use it."""

import json

import numpy as np
import pytest
from layouts import list_boxes, write_boxes
from models import fail, read_pictures, read_words, serve_model
from verbs import run_verb

from relo_edge.errors import FinderError, InputError
from relo_edge.finder import chat
from relo_edge.host.opencv import cv2
from relo_edge.peers.r1track import SAMPLING, write_question
from relo_edge.peers.registry import open_peer

BOX = (150.0, 140.0, 84.0, 84.0)
"""Its crop is 336 pixels of the frame, shown as they are: from 24, 14 on."""


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(chat, "PAUSES", (0.01,))


def draw_frame(shift=0):
    """Grey, with a bright target where BOX is, moved to the right."""
    frame = np.full((400, 400, 3), 60, np.uint8)
    cv2.rectangle(frame, (150 + shift, 140), (233 + shift, 223), (40, 200, 250), cv2.FILLED)
    return frame


def follow(said, frames=None, box=BOX, word="r1track"):
    with serve_model(*([said] if not isinstance(said, list) else said)) as server:
        tracker = open_peer(f"{word}={server.url}#r1")
        tracker.init(draw_frame(), box)
        tracks = [tracker.update(frame) for frame in frames or [draw_frame()]]
    return server, tracks


def test_the_request_is_the_authors():
    server, _ = follow("[1,2,30,40]", [draw_frame(20)])
    (request,) = server.requests
    assert {key: request[key] for key in SAMPLING} == {
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 20,
        "max_tokens": 512,
    }
    kinds = [part["type"] for part in request["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    assert read_words(request) == (
        "Please identify the target specified by the bounding box [126,126,210,210] in the first "
        "image and locate it in the second image. Return the coordinates in "
        "[x_min,y_min,x_max,y_max] format."
    )
    template, search = read_pictures(request)
    for picture, shift in ((template, 0), (search, 20)):
        assert picture.shape == (336, 336, 3)
        expected = draw_frame(shift)[14 : 14 + 336, 24 : 24 + 336]
        assert np.abs(picture.astype(int) - expected).mean() < 1


def test_thinking_is_asked_for_before_the_question():
    plain = write_question((1, 2, 3, 4), thinking=False)
    asked = write_question((1, 2, 3, 4), thinking=True)
    assert asked.endswith(plain)
    head = asked.removesuffix(plain)
    assert "<think>" in head
    assert "</think><answer>" in head
    server, (track,) = follow(
        "<think>[1,1,2,2]</think><answer>[136,126,220,210]</answer>", word="r1track-think"
    )
    assert read_words(server.requests[0]).startswith(head)
    assert track.box == (160, 140, 84, 84)


def test_the_template_stays_and_the_search_follows():
    frames = [draw_frame(10), draw_frame(20), draw_frame(30)]
    server, tracks = follow("[136, 126, 220, 210]", frames)
    assert [track.box[0] for track in tracks] == [160, 170, 180]
    pairs = [read_pictures(request) for request in server.requests]
    for template, search in pairs:
        assert np.array_equal(template, pairs[0][0])
        # Each search is centred on the last box, so the target stands 10 pixels to the right.
        assert np.abs(search[168, 140:215].astype(int) - (40, 200, 250)).max() < 30


def test_a_box_of_another_size_in_a_scaled_crop():
    # A box of 42 has a crop of 168, shown twice as large.
    server, (track,) = follow("[126, 126, 230, 210]", box=(171.0, 161.0, 42.0, 42.0))
    assert "[126,126,210,210]" in read_words(server.requests[0])
    assert track.box == (171, 161, 52, 42)


def test_a_long_box_is_cut_where_its_crop_ends():
    server, _ = follow("[1,2,30,40]", box=(10.0, 190.0, 380.0, 10.0))
    words = read_words(server.requests[0])
    assert "[0," in words
    assert ",336," in words


BAD = {
    "prose": "It moved to the right.",
    "echo": lambda handler: read_words(handler.request_json),
    "NaN": "[NaN, 1, 2, 3]",
    "three numbers": "[1, 2, 3]",
    "turned round": "[210, 210, 126, 126]",
    "thoughts alone": "<think>it is at [136,126,220,210]",
    "two boxes": "[[136,126,220,210],[1,2,30,40]]",
    "nothing": "",
    "left edge": "[-34, 126, 100, 210]",
    "top edge": "[136, -14, 220, 210]",
    "right edge": "[136, 126, 376, 210]",
    "bottom edge": "[136, 126, 220, 386]",
    "far outside": "[136, 126, 99999, 210]",
}


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
def test_a_bad_answer_keeps_the_last_box(said):
    _, tracks = follow(["[136, 126, 220, 210]", said], [draw_frame(), draw_frame()])
    assert [track.box for track in tracks] == [(160, 140, 84, 84)] * 2
    assert [track.lost for track in tracks] == [False, True]


def test_a_server_that_fails_is_no_bad_answer():
    with pytest.raises(FinderError, match="found status 500"):
        follow(["[136, 126, 220, 210]", fail(500)], [draw_frame(), draw_frame()])


def test_a_tracker_without_a_target():
    with pytest.raises(InputError, match="no target; call init"):
        open_peer("r1track=http://127.0.0.1:1#m").update(draw_frame())
    with pytest.raises(InputError, match="finder's address"):
        open_peer("r1track")


@pytest.fixture
def data(tmp_path):
    """Two sequences of a target that moves by 10 pixels a frame."""
    for name in ("one", "two"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for number in range(4):
            cv2.imwrite(str(folder / f"{number}.png"), draw_frame(10 * number))
        write_boxes(folder / "groundtruth.txt", [[150 + 10 * n, 140, 84, 84] for n in range(4)])
    return tmp_path / "data"


def test_eval_gives_the_known_result(data, capsys, tmp_path):
    moving, staying = "[136, 126, 220, 210]", "[126, 126, 210, 210]"
    with serve_model(*[moving] * 3, staying) as server:
        word = f"r1track={server.url}#r1"
        words = ["--tracker", word, "--output", tmp_path / "r1", "--json"]
        code, out, err = run_verb(capsys, "eval", data, *words)
        assert code == 0, err
        again = run_verb(capsys, "eval", data, *words)[1]
        assert len(server.requests) == 6
    figures = json.loads(out)
    assert json.loads(again) == figures
    assert figures["sequences"]["one"]["ao"] == pytest.approx(1)
    overlaps = [(84 - 10 * n) / (84 + 10 * n) for n in range(1, 4)]
    assert figures["sequences"]["two"]["ao"] == pytest.approx(np.mean(overlaps))
    assert figures["fps"] > 0
    run = json.loads((tmp_path / "r1" / "summary.json").read_text())["run"]
    assert (run["tracker"], run["model"], run["sampling"]) == ("r1track", "r1", SAMPLING)


@pytest.mark.slow
def test_compare_shows_both_with_their_rates(data, capsys, tmp_path):
    with serve_model("[136, 126, 220, 210]") as server:
        word = f"r1track={server.url}#r1"
        run_verb(capsys, "eval", data, "--tracker", word, "--output", tmp_path / "r1")
    assert run_verb(capsys, "eval", data, "--tracker", "mil", "-o", tmp_path / "mil")[0] == 0
    code, out, _ = run_verb(capsys, "compare", tmp_path / "r1", tmp_path / "mil")
    assert code == 0
    (rates,) = [line.split() for line in out.splitlines() if line.startswith("FPS")]
    assert [float(rate) > 0 for rate in rates[1:]] == [True, True]


def test_a_server_that_ends_keeps_what_is_done(data, capsys, tmp_path):
    with serve_model(*["[136, 126, 220, 210]"] * 4, fail(500)) as server:
        words = ["--tracker", f"r1track={server.url}#r1", "--output", tmp_path / "r1"]
        code, _, err = run_verb(capsys, "eval", data, *words)
    assert (code, "Traceback" in err) == (1, False)
    assert "refuses the request: found status 500" in err
    assert [path.name for path in (tmp_path / "r1" / "sequences").iterdir()] == ["one.json"]


def test_track_draws_and_writes_without_a_confidence(data, capsys, tmp_path):
    with serve_model("[136, 126, 220, 210]") as server:
        code, out, err = run_verb(
            capsys,
            *("track", data / "one", "--init", "150,140,84,84"),
            *("--tracker", f"r1track={server.url}#r1"),
            *("--boxes", tmp_path / "o.json", "--save", tmp_path / "o.mp4", "--json"),
        )
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["runtime"], summary["device"]) == ("r1track", server.url)
    assert summary["mean_confidence"] is None
    rows = json.loads((tmp_path / "o.json").read_text())
    assert [row["x"] for row in rows] == [150, 160, 170, 180]
    assert [row["confidence"] for row in rows] == [1.0, None, None, None]


def test_a_key_is_for_finders_and_trackers_alike(monkeypatch):
    monkeypatch.setenv("RELO_EDGE_FINDER_KEY", "secret")
    server, _ = follow("[136, 126, 220, 210]")
    assert server.keys == ["Bearer secret"]
    assert "secret" not in json.dumps(list_boxes(2))
