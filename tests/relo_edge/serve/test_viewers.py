"""Mailboxes: a slow page gets the newest picture and never an old one, and holds nobody up."""

import asyncio

import numpy as np
import pytest
from browser import wait_for

from relo_edge.host.opencv import cv2
from relo_edge.serve.limits import MAX_QUEUED_EVENTS, MAX_VIEWERS, SNAPSHOTS_IN_FLIGHT
from relo_edge.serve.snapshots import NamedTrack, Snapshot, SnapshotEncoder
from relo_edge.serve.stage_times import StageTimes
from relo_edge.serve.viewers import Broadcaster, Viewer
from relo_edge.tracker import Track


def make_snapshot(number, size=(64, 48), tracks=()):
    return Snapshot(number, np.full((size[1], size[0], 3), number % 256, np.uint8), 0.0, tracks)


def read_number(message):
    import json

    length = int.from_bytes(message[:4], "big")
    return json.loads(message[4 : 4 + length])["picture"]


async def take(viewer):
    return await asyncio.wait_for(viewer.next_message(), 1)


async def is_silent(viewer):
    try:
        await asyncio.wait_for(viewer.next_message(), 0.02)
    except asyncio.TimeoutError:
        return True
    return False


def test_a_page_that_shows_nothing_gets_no_more_and_then_the_newest():
    async def watch():
        viewer = Viewer()
        for number in range(10):
            viewer.offer(make_snapshot(number))
            if number < SNAPSHOTS_IN_FLIGHT:
                assert read_number(await take(viewer)) == number
        assert await is_silent(viewer)
        assert viewer.note_seen(0)
        assert read_number(await take(viewer)) == 9
        assert await is_silent(viewer)

    asyncio.run(watch())


def test_notes_are_never_skipped_and_come_in_order():
    async def watch():
        viewer = Viewer()
        viewer.offer(make_snapshot(1))
        for number in range(5):
            viewer.send_event({"n": number})
        notes = [await take(viewer) for _ in range(5)]
        assert notes == [f'{{"n": {number}}}' for number in range(5)]
        assert read_number(await take(viewer)) == 1

    asyncio.run(watch())


def test_a_page_that_reads_nothing_is_given_up():
    async def watch():
        viewer = Viewer()
        for _ in range(MAX_QUEUED_EVENTS):
            viewer.send_event({})
        assert not viewer.gone
        viewer.send_event({})
        assert viewer.gone

    asyncio.run(watch())


def test_the_frame_under_a_drawn_box_is_kept_until_a_later_one_is_shown():
    async def watch():
        viewer = Viewer()
        snapshots = [make_snapshot(number) for number in range(4)]
        for snapshot in snapshots[:2]:
            viewer.offer(snapshot)
            await take(viewer)
        assert viewer.note_seen(0)
        assert viewer.find_snapshot(0) is snapshots[0]
        viewer.offer(snapshots[2])
        await take(viewer)
        assert viewer.find_snapshot(0) is snapshots[0]
        assert viewer.note_seen(2)
        assert viewer.find_snapshot(0) is None
        assert viewer.find_snapshot(1) is None
        assert viewer.find_snapshot(2) is snapshots[2]

    asyncio.run(watch())


@pytest.mark.parametrize("number", [None, -1, 1, 7])
def test_a_picture_that_was_not_sent_cannot_be_shown(number):
    async def watch():
        viewer = Viewer()
        viewer.offer(make_snapshot(0))
        await take(viewer)
        assert not viewer.note_seen(number)
        assert viewer.find_snapshot(number) is None

    asyncio.run(watch())


def test_places_are_limited_and_given_back():
    async def fill():
        broadcaster, counts = Broadcaster(), []
        broadcaster.on_count = counts.append
        viewers = [broadcaster.join() for _ in range(MAX_VIEWERS)]
        assert broadcaster.join() is None
        broadcaster.leave(viewers[0])
        assert broadcaster.join() is not None
        assert counts[-2:] == [MAX_VIEWERS - 1, MAX_VIEWERS]

    asyncio.run(fill())


def test_a_picture_that_comes_after_the_last_viewer_is_not_kept():
    async def leave_early():
        broadcaster = Broadcaster()
        broadcaster.attach(asyncio.get_running_loop())
        viewer = broadcaster.join()
        broadcaster.publish_snapshot(make_snapshot(1))
        await asyncio.sleep(0)
        assert broadcaster.latest is not None
        broadcaster.publish_snapshot(make_snapshot(2))
        broadcaster.leave(viewer)
        await asyncio.sleep(0)
        assert broadcaster.latest is None

    asyncio.run(leave_early())


def test_a_hub_whose_loop_is_gone_takes_posts_in_silence():
    broadcaster = Broadcaster()
    broadcaster.publish_snapshot(make_snapshot(1))
    loop = asyncio.new_event_loop()
    broadcaster.attach(loop)
    loop.close()
    viewer = broadcaster.join()
    broadcaster.publish_snapshot(make_snapshot(2))
    broadcaster.publish_event({"type": "heartbeat"})
    assert broadcaster.latest is None
    assert broadcaster.viewers == {viewer}


def test_pictures_are_made_for_viewers_alone_and_the_first_gets_the_newest():
    made = []
    maker = SnapshotEncoder(lambda snapshot: made.append(snapshot.number), StageTimes())
    maker.start()
    try:
        for number in range(5):
            maker.offer(make_snapshot(number))
        assert made == []
        maker.set_wanted(True)
        wait_for(lambda: made == [4])
        maker.set_wanted(False)
        maker.set_wanted(True)
        wait_for(lambda: made == [4, 4])
        maker.offer(make_snapshot(5))
        wait_for(lambda: made == [4, 4, 5])
    finally:
        maker.close()
    maker.close()


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 48), (64, 48)),
        ((2560, 1440), (1280, 720)),
        ((48, 2560), (24, 1280)),
        ((4000, 1), (1280, 1)),
    ],
)
def test_large_pictures_are_made_smaller_for_the_page(size, expected):
    message = make_snapshot(1, size).message
    length = int.from_bytes(message[:4], "big")
    picture = cv2.imdecode(np.frombuffer(message[4 + length :], np.uint8), cv2.IMREAD_COLOR)
    assert (picture.shape[1], picture.shape[0]) == expected
    assert f'"size": [{size[0]}, {size[1]}]'.encode() in message


def test_what_is_no_number_reaches_the_page_as_null():
    nan = float("nan")
    track = NamedTrack(0, "a", Track((nan, 1.26, float("inf"), 4), nan, nan, lost=True))
    assert track.to_dict() == {
        "target": 0,
        "name": "a",
        "box": [None, 1.3, None, 4.0],
        "confidence": None,
        "lost": True,
    }
    assert b"NaN" not in make_snapshot(1, tracks=(track,)).message
