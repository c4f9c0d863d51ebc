"""Targets in words on the page: found, shown, confirmed; or one line, and nothing has changed."""

import threading
from contextlib import contextmanager

import pytest
from clips import StillRuntime
from models import fail, read_pictures, read_words, serve_model
from pages import Watcher, make_tracking

from relo_edge.errors import InputError
from relo_edge.finder import chat
from relo_edge.finder.finders import FinderRequest, open_finder
from relo_edge.serve.building import build_wall
from relo_edge.serve.channel import Channel
from relo_edge.serve.page_finder import PageFinder
from relo_edge.serve.server import PageServer
from relo_edge.streams.named_sources import parse_sources

CAMERA = "synthetic:size=168x112,fps=30"
KEY = "RELO_EDGE_FINDER_KEY"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(chat, "PAUSES", (0.01,))


def open_page_finder(model):
    return PageFinder(open_finder(FinderRequest(model.url, "pixels", 10)))


@pytest.fixture
def ask(tmp_path):
    """A page whose finder is a scripted model: what it answers, and what was sent to it."""

    @contextmanager
    def run(*script):
        with serve_model(*script) as model:
            channel = Channel(make_tracking(tmp_path, CAMERA), open_page_finder(model))
            server = PageServer(channel, "127.0.0.1", 0)
            with server, Watcher(server, eager=False) as page:
                page.until(lambda: page.head)
                answer = page.ask("find", picture=page.head["picture"], words=" the red car ")
                yield answer, model, page

    return run


def test_what_is_found_is_tracked_once_it_is_confirmed(ask):
    with ask("[56, 28, 84, 84]") as (answer, model, page):
        assert answer == {"type": "found", "box": [56, 28, 28, 56], "id": 1}
        assert page.state["targets"] == []
        (request,) = model.requests
        assert read_pictures(request)[0].shape == (112, 168, 3)
        assert "the red car\n" in read_words(request)
        confirmed = page.ask("add", picture=page.head["picture"], box=answer["box"])
        assert confirmed["type"] == "done"
        assert len(page.state["targets"]) == 1


@pytest.mark.parametrize(
    ("said", "line"),
    {
        "not there": ('{"bbox_2d": null}', "the model sees no such target; use other words"),
        "two": ("[[1,2,30,40],[5,6,70,80]]", "found 2 boxes, expected a single box"),
        "outside": ("[100, 100, 900, 900]", "outside the picture"),
        "500": (fail(500), "refuses the request: found status 500"),
    }.values(),
)
def test_a_refusal_is_one_line_on_the_page(ask, said, line):
    with ask(said) as (answer, _, page):
        assert (answer["type"], answer["id"]) == ("error", 1)
        assert line in answer["message"]
        assert "\n" not in answer["message"]
        assert page.state["targets"] == []


def test_the_key_stays_in_the_environment(ask, monkeypatch):
    monkeypatch.setenv(KEY, "secret-words")
    with ask(fail(401)) as (answer, model, page):
        assert "Bearer secret-words" in model.keys
        assert "secret-words" not in str((answer, page.state))


def test_words_and_pictures_that_cannot_be(ask):
    with ask("[56, 28, 84, 84]") as (_, model, page):
        asked = len(model.requests)
        picture = page.head["picture"]
        for words in (" ", "x" * 201, "a\nb"):
            message = page.ask("find", picture=picture, words=words)["message"]
            assert message.startswith("words: found")
        page.post({"do": "find", "id": 90, "picture": 10**6, "words": "car"})
        page.until(lambda: None in page.answers)
        assert (
            page.answers.pop(None)["message"] == "picture 1000000 is not held any more; ask again"
        )
        page.post({"do": "find", "id": 91, "picture": picture, "words": 7})
        page.until(lambda: None in page.answers)
        assert "words: found '7', expected a text" in page.answers[None]["message"]
        assert len(model.requests) == asked


def test_without_a_finder_there_is_no_field_and_no_answer(server):
    heard = []
    with Watcher(server) as page:
        while not (page.head and page.samples):
            heard.append(page.hear())
        page.post({"do": "find", "id": 1, "picture": page.head["picture"], "words": "car"})
        page.until(lambda: None in page.answers)
        said = page.answers[None]["message"]
    assert said == "this page has no finder; start serve with --finder URL"
    assert "finder" not in [note.get("type") for note in heard]


def test_one_question_at_a_time():
    asked, go_on = threading.Event(), threading.Event()

    class SlowFinder:
        def find(self, _, words):
            asked.set()
            assert go_on.wait(10)
            return (1.0, 2.0, 3.0, 4.0) if words == "car" else 1 / 0

    finder = PageFinder(SlowFinder())
    first = finder.ask(None, "car")
    assert asked.wait(10)
    with pytest.raises(InputError, match="the finder is still answering; ask again in a moment"):
        finder.ask(None, "dog").result(10)
    go_on.set()
    assert first.result(10) == (1, 2, 3, 4)
    with pytest.raises(ZeroDivisionError):
        finder.ask(None, "dog").result(10)
    assert finder.ask(None, "car").result(10), "a failure leaves it free"


def test_each_page_of_a_wall_has_the_finder(tmp_path):
    sources = parse_sources([f"a={CAMERA}", f"b={CAMERA}"])
    starts = {"a": [], "b": []}
    runtime = StillRuntime(batch=4)
    with serve_model("[56, 28, 84, 84]") as model:
        finder = open_page_finder(model)
        wall = build_wall(sources, runtime, 2, "default", None, tmp_path, starts, None, finder)
        with PageServer(wall, "127.0.0.1", 0) as server:
            for name in ("a", "b"):
                with Watcher(server, path=f"/sources/{name}/live") as page:
                    page.eager = False
                    page.until(lambda page=page: page.head)
                    answer = page.ask("find", picture=page.head["picture"], words="car")
                    assert answer["box"] == [56, 28, 28, 56]
