"""Choosing targets: what is asked for is what starts, or one line says why not."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relo_edge.box_files import record_boxes
from relo_edge.errors import InputError, MissingDependency, ReloError
from relo_edge.tracker import Track
from relo_edge.tracking.targets import (
    TargetStart,
    check_starts,
    gather_starts,
    parse_start,
    select_starts,
)
from relo_edge.video.feed import FeedFrame

BOX = (1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize("text", ["", "1,2,3", "1,2,3,4,5", "1,2,x,4", "1;2;3;4", "car=", "=1,2"])
def test_box_that_is_not_four_numbers(text):
    with pytest.raises(InputError, match="--init: found .*expected four numbers"):
        parse_start(text)


def test_box_is_read():
    assert parse_start("1, 2.5,3e1,-4", 7) == TargetStart((1.0, 2.5, 30.0, -4.0), 7)
    assert parse_start("a=b=1,2,3,4") == TargetStart(BOX, "a=b")
    assert math.isnan(parse_start("nan,1,1,1").box[0])


@pytest.mark.parametrize("name", ["", "x" * 41, "a\nb", "\x1b[31m"])
def test_names_that_cannot_be_shown(name):
    with pytest.raises(InputError, match="target's name"):
        parse_start(f"{name}=1,2,3,4")


def test_several_boxes_are_numbered_or_named():
    starts = gather_starts(["1,2,3,4", "car=1,2,3,4", "1,2,3,4"], None, 5)
    assert starts == [TargetStart(BOX, 0, 5), TargetStart(BOX, "car", 5), TargetStart(BOX, 2, 5)]


@pytest.mark.parametrize(
    ("content", "starts"),
    [
        ([[1, 2, 3, 4], [1, 2, 3, 4]], [TargetStart(BOX, 0, 6), TargetStart(BOX, 1, 6)]),
        ({"car": [1, 2, 3, 4]}, [TargetStart(BOX, "car", 6)]),
        ({"car": {"box": [1, 2, 3, 4], "frame": 8, "until": 9}}, [TargetStart(BOX, "car", 8, 9)]),
    ],
)
def test_targets_from_json(tmp_path, content, starts):
    (tmp_path / "t.json").write_text(json.dumps(content))
    assert gather_starts([], tmp_path / "t.json", 6) == starts


@pytest.mark.parametrize(
    "content",
    [
        '"x"',
        "{",
        "[[1,2,3]]",
        "[[1,2,3,true]]",
        "[[1,2,3,1e400]]",
        "[NaN]",
        "[" * 99999,
        '{"a": {"box": [1,2,3,4], "x": 1}}',
        '{"a": {"box": [1,2,3,4], "frame": -1}}',
        '{"": [1,2,3,4]}',
    ],
)
def test_json_that_is_no_list_of_targets(tmp_path, content):
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(ReloError) as caught:
        gather_starts([], tmp_path / "t.json", 0)
    assert "\n" not in str(caught.value)


def test_going_on_from_boxes_written_before(tmp_path):
    recorder = record_boxes(tmp_path / "b.csv")
    for frame in (3, 4):
        for target in (0, "car"):
            recorder.write(frame, target, Track((frame, 2, 3, 4), 1, 1, False))
    recorder.close()
    expected = [TargetStart((4.0, 2.0, 3.0, 4.0), name, 4) for name in (0, "car")]
    assert gather_starts([], tmp_path / "b.csv", 4) == expected
    with pytest.raises(InputError, match="has no box for frame 9"):
        gather_starts([], tmp_path / "b.csv", 9)
    with (tmp_path / "b.csv").open("a") as file:
        file.write("torn,")
    with pytest.raises(ReloError, match="line 6"):
        gather_starts([], tmp_path / "b.csv", 4)


@pytest.mark.parametrize("name", ["b.csv", "b.json", "b.jsonl", "b.mot.txt"])
def test_every_box_file_that_track_writes_can_be_started_from(tmp_path, name):
    """CSV apart, they used to be refused, or read as something else."""
    recorder = record_boxes(tmp_path / name)
    names = (0, 1) if name.endswith("txt") else (0, "=1+1|'x")
    for frame in (3, 4):
        for target in names:
            recorder.write(frame, target, Track((frame + 0.5, 2, 3, 4), 1, 1, False), 0.1)
    recorder.close()
    expected = [TargetStart((4.5, 2.0, 3.0, 4.0), target, 4) for target in names]
    assert gather_starts([], tmp_path / name, 4) == expected
    with pytest.raises(InputError, match="has no box for frame 9"):
        gather_starts([], tmp_path / name, 9)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("b.jsonl", '{"frame": 0, "target": 0, "x": 1'),
        ("b.jsonl", '{"frame": 0, "target": 0, "x": 1, "y": 1, "w": 1}'),
        ("b.jsonl", '{"frame": 0, "target": null, "x": 1, "y": 1, "w": 1, "h": 1}'),
        ("b.jsonl", '{"frame": -1, "target": 0, "x": 1, "y": 1, "w": 1, "h": 1}'),
        ("b.jsonl", '{"frame": 0, "target": 0, "x": 1, "y": 1, "w": 1, "h": NaN}'),
        ("b.jsonl", "[" * 99999),
        ("b.jsonl", "[1, 2, 3, 4]"),
        ("b.json", '[{"frame": 0, "target": 0, "x": 1}]'),
        ("b.json", '[{"frame": 0, "target": "\\u001b[2J", "x": 1, "y": 1, "w": 1, "h": 1}]'),
        ("b.mot.txt", "1,1,2,3,4"),
        ("b.mot.txt", "1,x,2,3,4,5,1,-1,-1,-1"),
        ("b.csv", "frame,target,x,y,w,h,score,confidence,lost\n0,\x1b[2J,1,1,1,1,1,1,0\n"),
    ],
)
def test_torn_or_made_up_box_files_are_one_line(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ReloError) as caught:
        gather_starts([], tmp_path / name, 0)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_ground_truth_gives_the_row_of_the_frame(tmp_path):
    (tmp_path / "groundtruth.txt").write_text("9,9,9,9\n1\t2\t3\t4\n")
    assert gather_starts([], tmp_path / "groundtruth.txt", 1) == [TargetStart(BOX, 0, 1)]
    with pytest.raises(InputError, match="found 2 rows, expected one for frame 2"):
        gather_starts([], tmp_path / "groundtruth.txt", 2)
    (tmp_path / "one.txt").write_text("1,2,3,4")
    assert gather_starts([], tmp_path / "one.txt", 7) == [TargetStart(BOX, 0, 7)]


def test_otb_rows_that_do_not_tell_their_frames_are_not_guessed(tmp_path):
    """`track --start 10` writes frame 10 as the first row, which used to be read as frame 0's."""
    path = tmp_path / "s.txt"
    recorder = record_boxes(path)
    for frame in range(10, 40):
        recorder.write(frame, 0, Track((frame, 2, 3, 4), 1, 1, False))
    recorder.close()
    with pytest.raises(InputError, match=r"found 30 rows that do not tell .* for frame 10, or a"):
        gather_starts([], path, 10)
    assert gather_starts([], path, 0)[0].box[0] == 10, "the first row, where nothing is skipped"


@pytest.mark.parametrize(
    "name", ["groundtruth.txt", "groundtruth_rect.txt", "groundtruth_rect.2.txt"]
)
def test_every_ground_truth_gives_the_row_of_the_frame(tmp_path, name):
    (tmp_path / name).write_text("9,9,9,9\n1,2,3,4\n")
    assert gather_starts([], tmp_path / name, 1) == [TargetStart(BOX, 0, 1)]


@pytest.mark.parametrize(("name", "first"), [("groundtruth.txt", 4), ("boxes.txt", 5)])
def test_ground_truth_counts_from_what_its_sequence_says(tmp_path, name, first):
    """The same box as in `eval`; what `track` wrote there counts from 0 in any case."""
    (tmp_path / name).write_text("5,5,10,20\n")
    assert gather_starts([], tmp_path / name, 0) == [TargetStart((5, 5, 10, 20))]
    (tmp_path / "meta.json").write_text('{"origin": 1}')
    assert gather_starts([], tmp_path / name, 0) == [TargetStart((first, first, 10, 20))]


def test_no_file_there(tmp_path):
    for path, found in ((tmp_path / "none.json", "no such file"), (tmp_path, "found a folder")):
        with pytest.raises(InputError, match=found):
            gather_starts([], path, 0)


@settings(max_examples=60)
@given(
    content=st.binary(max_size=80),
    suffix=st.sampled_from(["json", "csv", "txt", "jsonl", "mot.txt"]),
)
def test_any_file_is_targets_or_one_line(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("any") / f"t.{suffix}"
    path.write_bytes(content)
    try:
        check_starts(gather_starts([], path, 0), 0)
    except ReloError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        ([], "give --init X,Y,W,H, --init-from FILE or --select"),
        ([TargetStart(BOX, 1), TargetStart(BOX, "1")], "two targets are called '1'"),
        (
            [TargetStart(BOX, 0, 3)],
            "found start frame 3 and end frame None, expected a start from frame 4",
        ),
        ([TargetStart(BOX, 0, 5, 5)], "found start frame 5 and end frame 5"),
    ],
)
def test_targets_that_cannot_be(starts, message):
    with pytest.raises(InputError, match=message):
        check_starts(starts, 4)


def test_drawn_boxes_come_beside_the_others(monkeypatch):
    frame = FeedFrame(3, np.zeros((1800, 3200, 3), np.uint8), 0.0)
    monkeypatch.setattr("relo_edge.video.window.check_display", lambda _: None)
    monkeypatch.setattr("relo_edge.video.window.cv2.destroyAllWindows", lambda: None)

    def draw(_title, picture, **_):
        assert picture.shape == (900, 1600, 3)
        return np.array([[10, 20, 30, 40], [5, 5, 0, 9]])

    monkeypatch.setattr("relo_edge.video.window.cv2.selectROIs", draw)
    given = [TargetStart(BOX, 0, 3)]
    assert select_starts(frame, given) == [*given, TargetStart((20.0, 40.0, 60.0, 80.0), 1, 3)]


def test_no_screen_to_draw_on(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    frame = FeedFrame(0, np.zeros((64, 64, 3), np.uint8), 0.0)
    with pytest.raises(MissingDependency, match="no window can be shown.*--init-from"):
        select_starts(frame, [])
