"""Two replicas on a real Ray cluster here, one of which is killed: `make fleet-check`."""

import asyncio
import os
import time
from types import SimpleNamespace

import pytest
from local_tracks import make_frames, measure_distance, track_here

from relo_edge import ReconnectPolicy
from relo_edge.errors import InputError
from relo_edge.fleet import FleetOptions, FleetTracker, deploy
from relo_edge.fleet import routing as routing_module
from relo_edge.fleet.routing import STATS_SECONDS
from relo_edge.host.telemetry import import_silenced

# A busy machine's replicas are asked longer than 0.1 s how many requests they have.
os.environ.setdefault("RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S", "5")
pytest.importorskip("ray.serve")
pytestmark = pytest.mark.slow

SECONDS = 60.0
"""What a stream of a killed replica may take to go on elsewhere, on a machine that is busy."""
PATIENT = ReconnectPolicy(stall_seconds=60, first_delay=0.1, max_delay=1.0, attempts=20)


@pytest.fixture(scope="module")
def ray():
    ray = import_silenced("ray")
    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray
    import_silenced("ray.serve").shutdown()
    ray.shutdown()


@pytest.fixture(scope="module")
def fleet(ray, small_bundle):
    options = FleetOptions(str(small_bundle.path), "onnxruntime", streams=4, replicas=2)
    deploy(options, name="two")


def kill_replica(ray, name):
    """As a crash does: the actor is gone, and Serve has not been told."""
    actors = ray.util.list_named_actors(all_namespaces=True)
    (actor,) = [entry for entry in actors if entry["name"].endswith(f"#{name}")]
    ray.kill(ray.get_actor(actor["name"], namespace=actor["namespace"]))


def wait_for_replicas(count):
    serve, end = import_silenced("ray.serve"), time.monotonic() + 300
    while time.monotonic() < end:
        (deployment,) = serve.status().applications["two"].deployments.values()
        # Serve counts a killed replica as running until it looks; its actor is gone at once.
        actors = import_silenced("ray").util.list_named_actors(all_namespaces=True)
        alive = sum(actor["name"].startswith("SERVE_REPLICA::two#") for actor in actors)
        if dict(deployment.replica_states) == {"RUNNING": count} and alive == count:
            return
        time.sleep(0.5)
    raise AssertionError(deployment)


def test_a_replica_is_killed_and_its_streams_go_on_elsewhere(ray, fleet, small_bundle):
    clips = [make_frames(seed, 10) for seed in (1, 2, 3, 4)]
    trackers = [FleetTracker("two", color="bgr", reconnect=PATIENT) for _ in clips]
    for tracker, (frames, box) in zip(trackers, clips, strict=True):
        tracker.init(frames[0], box)
    found, homes, longest = [[] for _ in clips], [], 0.0
    for index in range(1, 10):
        if index == 5:
            homes = [tracker._remote._replicas[0] for tracker in trackers]
            kill_replica(ray, homes[0])
        for tracker, (frames, _), tracks in zip(trackers, clips, found, strict=True):
            start = time.monotonic()
            tracks.append(tracker.update(frames[index]))
            longest = max(longest, time.monotonic() - start) if index == 5 else longest
    assert len(set(homes)) == 2  # streams are spread over the replicas
    for tracker, (frames, box), tracks, home in zip(trackers, clips, found, homes, strict=True):
        moved = home == homes[0]
        marks = [index for index, track in enumerate(tracks, 1) if track.restarted]
        assert marks == ([5] if moved else [])
        assert tracker.restarts == moved
        expected = track_here(small_bundle, frames, box, forget=5 if moved else None)
        assert measure_distance(tracks, expected) <= 1e-4
        tracker.close()
    print(f"streams went on after {longest:.1f} s")
    assert longest < SECONDS


def test_replicas_that_are_replaced_move_their_streams(ray, fleet, small_bundle):
    wait_for_replicas(2)
    time.sleep(3 * STATS_SECONDS)  # the router hears of the new one, and of streams that have ended
    clips = [make_frames(seed, 9) for seed in (5, 6)]
    trackers = [FleetTracker("two", color="bgr", reconnect=PATIENT) for _ in clips]
    for tracker, (frames, box) in zip(trackers, clips, strict=True):
        tracker.init(frames[0], box)
    found, homes = [[] for _ in clips], []
    for index in range(1, 9):
        if index == 4:
            homes = [tracker._remote._replicas[0] for tracker in trackers]
            deploy(FleetOptions(str(small_bundle.path), "onnxruntime", streams=4), name="two")
        for tracker, (frames, _), tracks in zip(trackers, clips, found, strict=True):
            tracks.append(tracker.update(frames[index]))
    assert len(set(homes)) == 2
    left = {tracker._remote._replicas[0] for tracker in trackers}
    assert len(left) == 1
    for tracker, (frames, box), tracks, home in zip(trackers, clips, found, homes, strict=True):
        marks = [index for index, track in enumerate(tracks, 1) if track.restarted]
        assert len(marks) == (home not in left)
        expected = track_here(small_bundle, frames, box, forget=marks[0] if marks else None)
        assert measure_distance(tracks, expected) <= 1e-4
        tracker.close()


def test_an_application_that_is_not_there(ray, fleet):
    with pytest.raises(InputError, match="application other"):
        FleetTracker("other", color="bgr")


async def choose(router, replicas, wanted):
    request = SimpleNamespace(kwargs={"replica": wanted})
    return [
        [one.replica_id.unique_id for one in rank]
        for rank in await router.choose_replicas(replicas, request)
    ]


def test_the_router_sends_streams_home_and_new_ones_to_the_emptiest():
    router = object.__new__(routing_module.StreamRouter)
    router.initialize_state()
    replicas = [
        SimpleNamespace(
            replica_id=SimpleNamespace(unique_id=name), routing_stats={"streams": streams}
        )
        for name, streams in (("a", 3), ("b", 1), ("c", 2))
    ]
    assert asyncio.run(choose(router, replicas, "a")) == [["a"]]
    assert asyncio.run(choose(router, replicas, "gone")) == [["b"], ["c"], ["a"]]
    new = SimpleNamespace(kwargs={"replica": None})
    for _ in range(3):
        router.on_request_routed(new, replicas[1].replica_id, None)
    assert asyncio.run(choose(router, replicas, None)) == [["c"], ["a"], ["b"]]
    replicas[1].routing_stats["streams"] = 1  # the same again: nothing new was reported
    assert asyncio.run(choose(router, replicas, None)) == [["c"], ["a"], ["b"]]
    replicas[1].routing_stats["streams"] = 0
    assert asyncio.run(choose(router, replicas, None)) == [["b"], ["c"], ["a"]]


def test_the_router_forgets_streams_that_ended_unreported(monkeypatch):
    router, clock = object.__new__(routing_module.StreamRouter), [100.0]
    router.initialize_state()
    monkeypatch.setattr(routing_module.time, "monotonic", lambda: clock[0])
    replicas = [
        SimpleNamespace(replica_id=SimpleNamespace(unique_id=name), routing_stats={"streams": 0})
        for name in ("a", "b")
    ]
    new = SimpleNamespace(kwargs={"replica": None})
    for _ in range(2):
        router.on_request_routed(new, replicas[0].replica_id, None)
    assert asyncio.run(choose(router, replicas, None)) == [["b"], ["a"]]
    clock[0] += 2 * STATS_SECONDS
    assert asyncio.run(choose(router, replicas, None)) == [["a"], ["b"]]
