"""The tracker over a server against the tracker here: boxes, sequences, and servers that die.

Each test runs against a stand-in with Triton's protocol, and against the real server of the wheel
nvidia-pytriton where that is installed: `make triton-check`.
"""

import logging

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from local_tracks import make_frames, measure_distance, track_here
from triton_server import KINDS, start_server
from triton_stand_in import TritonStandIn

from relo_edge import LostRule, MultiTracker, ReconnectPolicy, Recovery
from relo_edge.errors import InputError, RuntimeUnavailable
from relo_edge.triton import TritonRuntime, TritonTracker, warm_up

MODEL = "relo-small"
PATIENT = ReconnectPolicy(stall_seconds=20, first_delay=0.05, max_delay=0.5, attempts=200)
HASTY = ReconnectPolicy(stall_seconds=2, first_delay=0.01, max_delay=0.01, attempts=1)


@pytest.fixture(scope="module", params=KINDS)
def server(request, small_bundle, tmp_path_factory):
    """A server that runs; a test that kills it starts it again."""
    folder = tmp_path_factory.mktemp("triton")
    server = start_server(request.param, small_bundle, folder, batch=2)
    yield server
    server.kill()


@pytest.fixture
def tracker(server):
    with TritonTracker(server.url, MODEL, color="bgr", reconnect=PATIENT) as tracker:
        yield tracker


@pytest.mark.slow
def test_three_interleaved_sequences_equal_local_ones(server, small_bundle):
    count = 6 if isinstance(server, TritonStandIn) else 60
    clips = [make_frames(seed, count + 1) for seed in (1, 2, 3)]
    trackers = [TritonTracker(server.url, MODEL, color="bgr") for _ in clips]
    found = [[] for _ in trackers]
    for tracker, (frames, box) in zip(trackers, clips, strict=True):
        tracker.init(frames[0], box)
    for index in range(1, count + 1):
        for tracker, (frames, _), tracks in zip(trackers, clips, found, strict=True):
            tracks.append(tracker.update(frames[index]))
    for tracker, (frames, box), tracks in zip(trackers, clips, found, strict=True):
        tracker.close()
        expected = track_here(small_bundle, frames, box)
        assert measure_distance(tracks, expected) <= 1e-4
        assert (
            max(abs(a.confidence - b.confidence) for a, b in zip(tracks, expected, strict=True))
            < 1e-4
        )
        assert not any(track.restarted for track in tracks)
        assert tracker.restarts == 0


@pytest.mark.slow
def test_several_targets_of_one_client_are_asked_for_at_once(server, small_bundle):
    frames, box = make_frames(4, 6)
    other = (30.0, 40.0, 60.0, 50.0)
    with TritonRuntime(server.url, MODEL, batch=2) as runtime:
        targets = MultiTracker(runtime, runtime.protocol, color="bgr")
        names = [targets.add(frames[0], given) for given in (box, other)]
        found = [targets.update(frame) for frame in frames[1:]]
    for name, given in zip(names, (box, other), strict=True):
        expected = track_here(small_bundle, frames, given)
        assert measure_distance([tracks[name] for tracks in found], expected) <= 1e-4


def test_a_target_starts_again_without_history(tracker, small_bundle):
    frames, box = make_frames(5, 5)
    for _ in range(2):
        tracker.init(frames[0], box)
        found = [tracker.update(frame) for frame in frames[1:]]
        assert measure_distance(found, track_here(small_bundle, frames, box)) <= 1e-4
    assert tracker.restarts == 0


def test_a_lost_target_is_searched_for_as_here(server, small_bundle):
    frames, box = make_frames(6, 12)
    dark = [np.zeros_like(frame) for frame in frames[:5]]
    frames = [*frames[:4], *dark, *frames[4:]]
    options = {"lost_rule": LostRule(threshold=0.9, patience=1), "recovery": Recovery()}
    expected = track_here(small_bundle, frames, box, **options)
    assert any(track.lost for track in expected)  # so that steps are taken back
    with TritonTracker(server.url, MODEL, color="bgr", **options) as tracker:
        tracker.init(frames[0], box)
        found = [tracker.update(frame) for frame in frames[1:]]
    assert [track.lost for track in found] == [track.lost for track in expected]
    assert measure_distance(found, expected) <= 1e-4


def test_a_sequence_without_start_is_refused(server):
    with TritonRuntime(server.url, MODEL, reconnect=HASTY) as runtime:
        runtime._slots[0].has_history = 1.0  # so that no START is sent
        (answer,) = runtime._ask([0], np.zeros((1, *runtime.motion.pixels), np.uint8))
        assert "does not know the sequence" in str(answer)
        assert not answer.unreachable


def test_a_server_that_is_killed_and_started_again(server, tracker, caplog):
    frames, box = make_frames(7, 7)
    tracker.init(frames[0], box)
    marked = []
    with caplog.at_level(logging.WARNING, "relo_edge"):
        for index, frame in enumerate(frames[1:]):
            if index in (2, 4):
                server.kill()
                server.start(wait=False)
            marked.append(tracker.update(frame).restarted)
    # Marked in the frame for which it was started again, and in no other.
    assert [index for index, mark in enumerate(marked) if mark] == [2, 4]
    assert tracker.restarts == 2
    assert caplog.text.count("starts again") == 2
    server.wait()


def test_a_stream_that_starts_again_goes_on_from_its_last_box(server, tracker, small_bundle):
    frames, box = make_frames(8, 8)
    tracker.init(frames[0], box)
    found = [tracker.update(frame) for frame in frames[1:4]]
    server.kill()
    server.start(wait=False)
    found += [tracker.update(frame) for frame in frames[4:]]
    server.wait()
    # The same template and box, no history.
    expected = track_here(small_bundle, frames, box, forget=4)
    assert measure_distance(found, expected) <= 1e-4
    assert [track.restarted for track in found].index(True) == 3


def test_a_server_that_stays_away_is_an_error_and_the_frame_can_be_tried_again(server):
    frames, box = make_frames(9, 3)
    with TritonTracker(server.url, MODEL, color="bgr", reconnect=HASTY) as tracker:
        tracker.init(frames[0], box)
        tracker.update(frames[1])
        server.kill()
        with pytest.raises(RuntimeUnavailable, match="does not answer after 2 attempts"):
            tracker.update(frames[2])
        server.start()
        assert tracker.update(frames[2]).restarted
        assert tracker.restarts == 1


def test_a_client_that_ends_while_the_server_is_away(server):
    frames, box = make_frames(10, 2)
    tracker = TritonTracker(server.url, MODEL, color="bgr", reconnect=HASTY)
    tracker.init(frames[0], box)
    tracker.update(frames[1])
    server.kill()
    tracker.close()
    tracker.close()
    with pytest.raises(RuntimeUnavailable, match="closed"):
        tracker.update(frames[1])
    with pytest.raises(RuntimeUnavailable, match="does not answer"):
        TritonTracker(server.url, MODEL, color="bgr", reconnect=HASTY)
    server.start()


def test_a_model_that_is_not_there(server):
    with pytest.raises(InputError, match="does not serve a model 'other'"):
        TritonTracker(server.url, "other", color="bgr")


def test_a_model_that_is_not_ours(server):
    with pytest.raises(InputError, match="relo-edge triton"):
        TritonTracker(server.url, f"{MODEL}_template", color="bgr")


def test_another_protocols_window_is_refused(server):
    with TritonRuntime(server.url, MODEL) as runtime:
        search = np.zeros((1, *runtime.motion.pixels), np.uint8)
        with pytest.raises(InputError, match="window factor of 2.0"):
            runtime.step([0], search, np.ones_like(runtime.shared))
        with pytest.raises(RuntimeUnavailable, match="stays on the server"):
            runtime.read_state(0)


def test_a_colour_that_is_none_leaves_no_connection(server):
    with pytest.raises(InputError, match="colour order"):
        TritonTracker(server.url, MODEL, color="grey")


def test_a_warm_up_leaves_no_sequence(server):
    warm_up(server.url, MODEL, 2)
    if isinstance(server, TritonStandIn):
        assert not server.models[MODEL].kept


def test_sequences_end_with_their_trackers(server):
    if not isinstance(server, TritonStandIn):
        pytest.skip("a real server does not tell which sequences are open")
    frames, box = make_frames(11, 2)
    with TritonTracker(server.url, MODEL, color="bgr") as tracker:
        tracker.init(frames[0], box)
        tracker.update(frames[1])
        assert len(server.models[MODEL].kept) == 1
    assert not server.models[MODEL].kept


def test_an_answer_of_another_shape_is_no_box(server, tracker, monkeypatch):
    frames, box = make_frames(12, 3)
    tracker.init(frames[0], box)
    true = grpc_client.InferResult.as_numpy

    def cut(result, name):
        return true(result, name)[:, :1]

    with monkeypatch.context() as patch:
        patch.setattr(grpc_client.InferResult, "as_numpy", cut)
        with pytest.raises(RuntimeUnavailable, match="shape"):
            tracker.update(frames[1])
    assert len(tracker.update(frames[1]).box) == 4
