"""Sequences are tracked in one pass, the same way wherever it happens."""

import os

import numpy as np
import pytest
from clips import StillRuntime
from layouts import list_boxes, write_boxes, write_plain
from tracked import Wish

from relo_edge.benchmarks.accuracy.ray_cluster import find_share, track_on_ray
from relo_edge.benchmarks.accuracy.workers import (
    Crew,
    track_here,
    track_in_processes,
    track_sequence,
)
from relo_edge.datasets.layouts import read_dataset
from relo_edge.errors import InputError, ReloError, RuntimeUnavailable, SourceError
from relo_edge.spec import TrackerProtocol
from relo_edge.tracker import Tracker

SETTINGS = TrackerProtocol(2.0)


@pytest.fixture
def sequences(tmp_path):
    return read_dataset(write_plain(tmp_path / "data")).sequences


def track_all(tracked):
    return {sequence.name: one.boxes.tolist() for sequence, one in tracked}


def test_a_track_starts_with_the_given_box(sequences):
    frames = []
    tracker = Tracker(StillRuntime(), SETTINGS, color="bgr")
    tracked = track_sequence(sequences[0], tracker, Wish(), lambda: frames.append(1))
    assert tracked.boxes[0].tolist() == [1, 5, 20, 10]
    assert tracked.boxes.shape == (4, 4)
    assert np.isfinite(tracked.boxes).all()
    assert (tracked.seconds > 0).all()
    assert len(frames) == 4


def test_stopping_leaves_a_sequence_that_is_not_finished(sequences):
    tracker = Tracker(StillRuntime(), SETTINGS, color="bgr")
    assert track_sequence(sequences[0], tracker, Wish(after=2), lambda: None) is None
    done = track_all(track_here(tracker, sequences, Wish(after=6), lambda: None))
    assert list(done) == ["one"]


def test_what_cannot_be_tracked_is_named(tmp_path):
    write_plain(tmp_path)
    write_boxes(tmp_path / "two" / "groundtruth.txt", [[500, 5, 20, 10], *list_boxes(3)])
    one, two = read_dataset(tmp_path).sequences
    tracker = Tracker(StillRuntime(), SETTINGS, color="bgr")
    with pytest.raises(SourceError, match="sequence two, frame 0: box outside the frame"):
        track_sequence(two, tracker, Wish(), lambda: None)
    one.images[2].write_bytes(b"no picture")
    with pytest.raises(SourceError, match=r"2\.jpg' cannot be read: found 10 bytes"):
        track_sequence(one, tracker, Wish(), lambda: None)
    one.images[2].unlink()
    with pytest.raises(SourceError, match=r"2\.jpg' cannot be read: found no such file"):
        track_sequence(one, tracker, Wish(), lambda: None)


@pytest.mark.slow
def test_processes_track_as_this_one_does(sequences, small_bundle):
    crew = Crew(small_bundle.path, "onnxruntime", "fp32", "cpu", SETTINGS)
    frames = []
    side_by_side = track_in_processes(crew, sequences, 2, Wish(), lambda: frames.append(1))
    found = track_all(side_by_side)
    here = track_here(crew.open_tracker(), sequences, Wish(), lambda: None)
    assert found == track_all(here)
    assert len(frames) == 8


@pytest.mark.slow
def test_a_process_says_itself_what_is_wrong(sequences, small_bundle):
    crew = Crew(small_bundle.path, "onnxruntime", "int3", "cpu", SETTINGS)
    with pytest.raises(InputError, match="found int3"):
        list(track_in_processes(crew, sequences, 2, Wish(), lambda: None))


class Fatal:
    """A sequence that ends the process which receives it, as a lack of memory would."""

    images = ()

    def __reduce__(self):
        return os._exit, (1,)


def test_a_process_that_ends_by_itself(sequences, small_bundle):
    crew = Crew(small_bundle.path, "onnxruntime", "fp32", "cpu", SETTINGS)
    with pytest.raises(RuntimeUnavailable, match="ended by itself.*ask for fewer jobs"):
        list(track_in_processes(crew, [Fatal()], 1, Wish(), lambda: None))


@pytest.mark.slow
def test_processes_stop_when_asked_to(sequences, small_bundle):
    crew = Crew(small_bundle.path, "onnxruntime", "fp32", "cpu", SETTINGS)
    assert list(track_in_processes(crew, sequences, 1, Wish(after=0), lambda: None)) == []


def test_jobs_share_the_cores(monkeypatch):
    monkeypatch.setattr("relo_edge.benchmarks.accuracy.workers.count_cores", lambda: 8)
    crew = Crew("bundle", "onnxruntime", "fp32", "cpu", SETTINGS)
    assert [crew.share_cores(jobs).threads for jobs in (1, 3, 20)] == [8, 2, 1]


@pytest.fixture(scope="module")
def ray():
    return pytest.importorskip("ray")


@pytest.mark.slow
def test_a_ray_cluster_tracks_as_this_process_does(ray, sequences, small_bundle):
    crew = Crew(small_bundle.path, "onnxruntime", "fp32", "cpu", SETTINGS)
    frames = []
    found = track_all(track_on_ray(crew, sequences, "local", 2, Wish(), lambda: frames.append(1)))
    tracker = crew.open_tracker()
    assert found == track_all(track_here(tracker, sequences, Wish(), lambda: None))
    assert len(frames) == 8
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_ray_actor_says_itself_what_is_wrong(ray, sequences, small_bundle):
    crew = Crew(small_bundle.path, "onnxruntime", "int3", "cpu", SETTINGS)
    with pytest.raises(InputError, match="found int3"):
        list(track_on_ray(crew, sequences, "local", 1, Wish(), lambda: None))


@pytest.mark.parametrize(
    ("total", "actors", "share"), [(8, 2, 1), (8, 8, 1), (8, 9, 0.5), (2, 5, 1 / 3), (0, 3, 0)]
)
def test_every_actor_finds_a_place(total, actors, share):
    assert find_share(total, actors) == share
    if total:
        assert total * int(1 / share) >= actors


def test_a_ray_cluster_that_is_not_there(ray, sequences, small_bundle):
    crew = Crew(small_bundle.path, "onnxruntime", "fp32", "cpu", SETTINGS)
    with pytest.raises(ReloError, match="Ray cluster nowhere: .*HOST:PORT") as caught:
        list(track_on_ray(crew, sequences, "nowhere", 1, Wish(), lambda: None))
    assert "\n" not in str(caught.value)
