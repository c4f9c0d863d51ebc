"""The tracker over a fleet against the tracker here, on replicas in this process."""

import numpy as np
import pytest
from local_fleet import LocalFleet, ReplicaGone
from local_tracks import make_frames, measure_distance, track_here

from relo_edge import MultiTracker, ReconnectPolicy
from relo_edge.errors import DeviceError, InputError, RuntimeUnavailable
from relo_edge.fleet import FleetRuntime, FleetTracker
from relo_edge.fleet import client as client_module

HASTY = ReconnectPolicy(stall_seconds=5, first_delay=0.01, max_delay=0.01, attempts=2)


@pytest.fixture
def fleet(small_bundle, monkeypatch):
    fleet = LocalFleet(small_bundle)
    monkeypatch.setattr(client_module, "_find_app", lambda name: fleet)
    monkeypatch.setattr(client_module, "_list_losses", lambda: (TimeoutError, ReplicaGone))
    yield fleet
    fleet.close()


def test_streams_stay_with_their_replicas_and_equal_local_ones(fleet, small_bundle):
    clips = [make_frames(seed, 6) for seed in (1, 2, 3)]
    trackers = [FleetTracker(color="bgr") for _ in clips]
    for tracker, (frames, box) in zip(trackers, clips, strict=True):
        tracker.init(frames[0], box)
    found = [
        [tracker.update(frames[n]) for tracker, (frames, _) in zip(trackers, clips, strict=True)]
        for n in range(1, 6)
    ]
    assert sorted(len(table) for table in fleet.tables.values()) == [1, 2]
    for row, (frames, box) in enumerate(clips):
        tracks = [tracks[row] for tracks in found]
        assert measure_distance(tracks, track_here(small_bundle, frames, box)) <= 1e-4
        assert not any(track.restarted for track in tracks)
    for tracker in trackers:
        tracker.close()
    assert not any(len(table) for table in fleet.tables.values())


def test_a_replica_that_dies_moves_its_streams_and_no_other(fleet, small_bundle):
    clips = [make_frames(seed, 8) for seed in (1, 2)]
    trackers = [FleetTracker(color="bgr", reconnect=HASTY) for _ in clips]
    found = [[], []]
    for tracker, (frames, box) in zip(trackers, clips, strict=True):
        tracker.init(frames[0], box)
    for index in range(1, 8):
        if index == 4:
            fleet.kill(trackers[0]._remote._replicas[0])
        for tracker, (frames, _), tracks in zip(trackers, clips, found, strict=True):
            tracks.append(tracker.update(frames[index]))
    assert [track.restarted for track in found[0]] == [False] * 3 + [True] + [False] * 3
    assert trackers[0].restarts == 1
    assert trackers[1].restarts == 0
    # From its last box, with its template, without history: as a tracker here that forgets.
    frames, box = clips[0]
    assert measure_distance(found[0], track_here(small_bundle, frames, box, forget=4)) <= 1e-4
    frames, box = clips[1]
    assert measure_distance(found[1], track_here(small_bundle, frames, box)) <= 1e-4


def test_a_target_that_starts_again_stays_where_it_is(fleet, small_bundle):
    frames, box = make_frames(4, 4)
    with FleetTracker(color="bgr") as tracker:
        for _ in range(3):
            tracker.init(frames[0], box)
            found = [tracker.update(frame) for frame in frames[1:]]
            assert measure_distance(found, track_here(small_bundle, frames, box)) <= 1e-4
        assert sum(len(table) for table in fleet.tables.values()) == 1
        assert tracker.restarts == 0


def test_several_targets_of_one_client(fleet, small_bundle):
    frames, box = make_frames(5, 4)
    other = (30.0, 40.0, 60.0, 50.0)
    with FleetRuntime(batch=2) as runtime:
        targets = MultiTracker(runtime, runtime.protocol, color="bgr")
        names = [targets.add(frames[0], given) for given in (box, other)]
        found = [targets.update(frame) for frame in frames[1:]]
    for name, given in zip(names, (box, other), strict=True):
        expected = track_here(small_bundle, frames, given)
        assert measure_distance([tracks[name] for tracks in found], expected) <= 1e-4


def test_an_answer_that_is_not_finite_is_taken_back_on_both_sides(fleet, small_bundle, monkeypatch):
    frames, box = make_frames(6, 5)
    with FleetTracker(color="bgr") as tracker:
        tracker.init(frames[0], box)
        first = tracker.update(frames[1])
        for runtime in fleet.runtimes:
            spoil_once(runtime, monkeypatch)
        assert tracker.update(frames[2]).box == first.box
        found = [first, *(tracker.update(frame) for frame in frames[2:])]
        assert tracker.restarts == 0
    assert measure_distance(found, track_here(small_bundle, frames, box)) <= 1e-4


def spoil_once(runtime, monkeypatch):
    step = runtime.step

    def spoil(*inputs):
        result = step(*inputs)
        result.boxes[:] = np.nan
        monkeypatch.setattr(runtime, "step", step)
        return result

    monkeypatch.setattr(runtime, "step", spoil)


def test_without_room_the_error_says_so_and_a_stream_that_ends_makes_room(fleet):
    frames, box = make_frames(7, 3)
    trackers = [FleetTracker(color="bgr", reconnect=HASTY) for _ in range(5)]
    for tracker in trackers:
        tracker.init(frames[0], box)
    for tracker in trackers[:4]:
        tracker.update(frames[1])
    with pytest.raises(RuntimeUnavailable, match="2 streams are open"):
        trackers[4].update(frames[1])
    trackers[0].close()
    assert not trackers[4].update(frames[1]).restarted


def test_a_fleet_without_replicas_is_an_error_and_the_frame_can_be_tried_again(fleet):
    frames, box = make_frames(8, 3)
    with FleetTracker(color="bgr", reconnect=HASTY) as tracker:
        tracker.init(frames[0], box)
        tracker.update(frames[1])
        kept = dict(fleet.tables)
        fleet.tables.clear()
        with pytest.raises(RuntimeUnavailable, match="no answer: ReplicaGone"):
            tracker.update(frames[2])
        fleet.tables.update(kept)
        assert tracker.update(frames[2]).restarted


def test_a_replica_whose_gpu_fails_is_an_error(fleet, monkeypatch):
    frames, box = make_frames(9, 3)

    def fail(*_inputs):
        raise DeviceError("the GPU is gone")

    with FleetTracker(color="bgr", reconnect=HASTY) as tracker:
        tracker.init(frames[0], box)
        tracker.update(frames[1])
        with monkeypatch.context() as patch:
            for runtime in fleet.runtimes:
                patch.setattr(runtime, "step", fail)
            with pytest.raises(RuntimeUnavailable, match="the GPU is gone"):
                tracker.update(frames[2])
        assert tracker.update(frames[2]).restarted


def test_wrong_requests(fleet):
    with FleetRuntime(reconnect=HASTY) as runtime:
        with pytest.raises(InputError, match="target tensor"):
            runtime.set_target(0, "sentence", np.zeros(4, np.float32))
        with pytest.raises(InputError, match="slot"):
            runtime.forget(1)
        with pytest.raises(RuntimeUnavailable, match="stays on the server"):
            runtime.read_state(0)
    with pytest.raises(RuntimeUnavailable, match="closed"):
        runtime.forget(0)
    with pytest.raises(InputError, match="batch"):
        FleetRuntime(batch=0)
