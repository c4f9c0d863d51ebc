"""Tracks as labels: what CVAT, Label Studio and COCO's readers find in the files."""

import json
import math
from pathlib import Path
from xml.etree import ElementTree

import pytest

from relo_edge import Track
from relo_edge.errors import InputError, SourceError
from relo_edge.labels.recorder import LabelRecorder, find_format
from relo_edge.labels.rows import LabelledClip

CLIP = LabelledClip("clip.mp4", (200, 100), 25.0)


def track(x, *, lost=False, width=40.0):
    return Track((x, 10.0, width, 20.0), 1.0, 0.75, lost)


def record(path, rows):
    """Rows are (frame, target, track)."""
    recorder = LabelRecorder(path, find_format(path), CLIP)
    for row in rows:
        recorder.write(*row)
    recorder.close()
    return path.read_text(encoding="utf-8")


ROWS = [
    (0, "car", track(20.0)),
    (0, 7, track(100.0)),
    (1, "car", track(21.5)),
    (1, 7, track(101.0)),
    (2, 7, track(102.0, lost=True)),
    (3, 7, track(180.0)),
]


def read_cvat(text):
    root = ElementTree.fromstring(text)
    return {t.get("label"): [dict(b.items()) for b in t.iter("box")] for t in root.iter("track")}


def test_cvat_has_a_track_a_target_with_corners(tmp_path):
    text = record(tmp_path / "labels.xml", ROWS)
    root = ElementTree.fromstring(text)
    assert root.findtext("version") == "1.1"
    assert root.findtext("meta/task/original_size/width") == "200"
    assert [label.text for label in root.iter("name")] == ["clip.mp4", "car", "target"]
    car = read_cvat(text)["car"]
    assert car[1]["frame"] == "1"
    assert [float(car[1][key]) for key in ("xtl", "ytl", "xbr", "ybr")] == [21.5, 10, 61.5, 30]


def test_cvat_hides_what_is_lost_and_what_has_left(tmp_path):
    tracks = read_cvat(record(tmp_path / "labels.xml", ROWS))
    assert [(b["frame"], b["outside"]) for b in tracks["car"]] == [
        ("0", "0"),
        ("1", "0"),
        ("2", "1"),
    ]
    assert [b["outside"] for b in tracks["target"]] == ["0", "0", "1", "0"]


def test_labels_stay_within_the_picture(tmp_path):
    rows = [(0, "car", track(-10.0)), (1, "car", track(190.0)), (2, "car", track(-80.0))]
    boxes = read_cvat(record(tmp_path / "labels.xml", rows))["car"]
    assert [(float(b["xtl"]), float(b["xbr"])) for b in boxes] == [(0, 30), (190, 200), (0, 0)]
    assert [b["outside"] for b in boxes] == ["0", "0", "1"]


def test_a_name_that_means_something_in_xml_is_only_a_name(tmp_path):
    tracks = read_cvat(record(tmp_path / "labels.xml", [(0, '<"a&b">', track(5.0))]))
    assert list(tracks) == ['<"a&b">']


def test_label_studio_counts_from_1_in_percent(tmp_path):
    (task,) = json.loads(record(tmp_path / "clip.labelstudio.json", ROWS))
    assert task["data"] == {"video": "clip.mp4"}
    car, other = task["predictions"][0]["result"]
    assert (car["type"], car["from_name"], car["to_name"]) == ("videorectangle", "box", "video")
    assert car["value"]["labels"] == ["car"]
    assert car["value"]["framesCount"] == 4
    first, last = car["value"]["sequence"]
    assert [first[key] for key in ("frame", "x", "y", "width", "height")] == [1, 10, 10, 20, 20]
    assert last["time"] == pytest.approx(1 / 25)
    # A rectangle goes on to the clip's end unless its last key frame is not enabled.
    assert (first["enabled"], last["enabled"]) == (True, False)
    assert [k["enabled"] for k in other["value"]["sequence"]] == [True, True, False, True]


def test_coco_leaves_lost_targets_out(tmp_path):
    content = json.loads(record(tmp_path / "clip.coco.json", ROWS))
    assert [image["file_name"] for image in content["images"]] == [
        f"frame_{number:06d}.png" for number in range(4)
    ]
    assert content["categories"] == [{"id": 1, "name": "car"}, {"id": 2, "name": "target"}]
    assert [a["image_id"] for a in content["annotations"]] == [1, 2, 1, 2, 4]
    assert content["annotations"][1]["bbox"] == [21.5, 10, 40, 20]
    assert content["annotations"][1]["area"] == 800
    assert len({a["id"] for a in content["annotations"]}) == 5


def refuse_constant(word):
    pytest.fail(f"JSON has no {word}")


def test_coco_has_no_score_where_the_tracker_tells_no_confidence(tmp_path):
    untold = Track((20.0, 10.0, 40.0, 20.0), math.nan, math.nan, lost=False)
    text = record(tmp_path / "clip.coco.json", [(0, "car", track(20.0)), (1, "car", untold)])
    content = json.loads(text, parse_constant=refuse_constant)
    assert [one.get("score") for one in content["annotations"]] == [0.75, None]
    assert "score" not in content["annotations"][1]


def test_supervision_reads_the_coco_file(tmp_path):
    supervision = pytest.importorskip("supervision")
    record(tmp_path / "clip.coco.json", ROWS)
    dataset = supervision.DetectionDataset.from_coco(
        str(tmp_path), str(tmp_path / "clip.coco.json")
    )
    assert dataset.classes == ["car", "target"]
    found = dataset.annotations[str(tmp_path / "frame_000001.png")]
    assert found.xyxy.tolist() == [[21.5, 10, 61.5, 30], [101, 10, 141, 30]]


@pytest.mark.parametrize("name", ["a.xml", "a.labelstudio.json", "a.coco.json"])
def test_what_has_no_numbers_is_no_label(tmp_path, name):
    broken = Track((math.nan, 1.0, 2.0, 3.0), 1.0, 0.5, lost=False)
    text = record(tmp_path / name, [(0, "car", track(1.0)), (1, "car", broken)])
    assert "nan" not in text.lower()


@pytest.mark.parametrize("name", ["a.xml", "a.labelstudio.json", "a.coco.json"])
def test_a_run_without_targets_leaves_a_whole_file(tmp_path, name):
    text = record(tmp_path / name, [])
    _ = ElementTree.fromstring(text) if name == "a.xml" else json.loads(text)


def test_other_names_are_no_label_files():
    assert find_format(Path("boxes.json")) is None
    assert find_format(Path("A.COCO.JSON")) is not None


def test_a_file_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "taken.xml").mkdir()
    for path in (tmp_path / "taken.xml", tmp_path / "none" / "a.xml"):
        with pytest.raises((InputError, SourceError), match="output"):
            LabelRecorder(path, find_format(path), CLIP)
