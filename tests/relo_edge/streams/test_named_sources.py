"""Sources named on the command line, and the files that each one gets."""

from pathlib import Path

import pytest

from relo_edge.errors import InputError
from relo_edge.streams.named_sources import (
    NamedSource,
    assign_starts,
    insert_name,
    parse_sources,
    strip_source,
)


def test_a_name_stands_before_the_source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd=name.mp4").touch()
    words = [
        "door=rtsp://x/?a=b",
        "street.mp4",
        "synthetic:seed=1",
        "videotestsrc num-buffers=5 ! x",
        "odd=name.mp4",
        "rtsp://y/?a=b",
    ]
    named = [(one.name, one.source) for one in parse_sources(words)]
    assert named == [
        ("door", "rtsp://x/?a=b"),
        *((f"cam{place}", word) for place, word in enumerate(words[1:], 2)),
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "no source to follow; name one"),
        (["a=x", "a=y"], "two sources are called 'a'"),
        (["x", "cam1=y"], "two sources are called 'cam1'"),
    ],
)
def test_sources_that_cannot_be_told_apart_are_refused(words, reason):
    with pytest.raises(InputError, match=reason):
        parse_sources(words)


def test_targets_say_whose_they_are():
    sources = parse_sources(["a", "b=x"])
    texts = ["b:car=1,2,3,4", "cam1:1,2,3,4", "b:5,6,7,8"]
    starts = assign_starts(texts, sources, 7)
    found = {
        name: [(start.name, start.box[0], start.frame) for start in of]
        for name, of in starts.items()
    }
    assert found == {"cam1": [(0, 1.0, 7)], "b": [("car", 1.0, 7), (1, 5.0, 7)]}
    for text in ("car=1,2,3,4", "c:car=1,2,3,4", "1,2,3,4"):
        with pytest.raises(InputError, match="--init: found .* expected the source before a colon"):
            assign_starts([text], sources, 0)
    spaced = parse_sources(["street.mp4", "2", "3.5", "4"])
    with pytest.raises(
        InputError, match="found '1', .*; write the box with commas: --init 1,2,3.5"
    ):
        assign_starts(["1"], spaced, 0)
    with pytest.raises(InputError, match="four numbers"):
        assign_starts(["b:car=1,2"], sources, 0)


def test_the_only_source_may_be_named_in_its_targets():
    texts = ["a:car=1,2,3,4", "b:1,2,3,4"]
    assert strip_source(texts, NamedSource("a", "x", named=True)) == ["car=1,2,3,4", texts[1]]
    assert strip_source(texts, NamedSource("a", "x")) == texts


@pytest.mark.parametrize(
    ("path", "own"),
    [
        ("out/boxes.csv", "out/boxes.cam1.csv"),
        ("a.mot.txt", "a.cam1.mot.txt"),
        ("a.coco.json", "a.cam1.coco.json"),
        ("a.b.MP4", "a.b.cam1.MP4"),
        ("plain", "plain.cam1"),
        ("-", "-"),
    ],
)
def test_each_source_has_a_file_of_its_own(path, own):
    assert insert_name(Path(path), "cam1") == Path(own)
