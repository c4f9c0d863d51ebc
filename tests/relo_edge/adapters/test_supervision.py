"""Tracks for supervision, judged by its own annotators."""

import numpy as np
import pytest

from relo_edge import Track
from relo_edge.adapters import track_to_detections

TRACKS = {
    "car": Track((10.0, 20.0, 30.0, 40.0), 3.0, 0.9, lost=False),
    "dog": Track((50.0, 5.0, 20.0, 10.0), 1.0, 0.1, lost=True),
}


@pytest.fixture(scope="module", autouse=True)
def supervision():
    """Its import takes seconds: no price of every worker's collection."""
    return pytest.importorskip("supervision")


def test_corners_confidence_and_names_arrive(supervision):
    found = track_to_detections(TRACKS)
    assert isinstance(found, supervision.Detections)
    assert found.xyxy.tolist() == [[10, 20, 40, 60], [50, 5, 70, 15]]
    assert found.confidence.tolist() == pytest.approx([0.9, 0.1])
    assert len(set(found.tracker_id.tolist())) == 2
    assert found["class_name"].tolist() == ["car", "dog"]
    assert found[~found["lost"]]["class_name"].tolist() == ["car"]


def test_the_numbers_of_a_multi_tracker_are_kept():
    tracks = {4: TRACKS["car"], 7: TRACKS["dog"]}
    assert track_to_detections(tracks).tracker_id.tolist() == [4, 7]


def test_a_name_keeps_its_number_while_others_come_and_go():
    both = track_to_detections(TRACKS).tracker_id.tolist()
    alone = {name: track_to_detections({name: track}) for name, track in TRACKS.items()}
    assert [one.tracker_id.tolist() for one in alone.values()] == [[number] for number in both]


def test_no_target_is_no_detection():
    assert len(track_to_detections({})) == 0


def test_supervisions_annotators_draw_them(supervision):
    scene = np.zeros((80, 100, 3), np.uint8)
    found = track_to_detections(TRACKS)
    boxed = supervision.BoxAnnotator(thickness=1).annotate(scene.copy(), found)
    assert boxed[20, 10:40].any(axis=-1).all()
    labelled = supervision.LabelAnnotator().annotate(boxed.copy(), found)
    traced = supervision.TraceAnnotator().annotate(labelled.copy(), found)
    assert (labelled != boxed).any()
    assert traced.shape == scene.shape
