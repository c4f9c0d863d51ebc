"""Real clips are a function of seed and step, and what cannot be read costs a line, not a run."""

import logging
import os
import pickle
import re
import signal
from collections import deque
from itertools import count, islice
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from layouts import list_boxes, write_boxes, write_coco, write_lasot, write_plain
from small_training import SMALL, small_atlas

from relo_edge.errors import SourceError
from relo_edge.training import real_batches as drawing
from relo_edge.training.data import open_training_data
from relo_edge.training.real_batches import (
    RealClips,
    check_sources,
    count_workers,
    stream_real_clips,
)
from relo_edge.training.real_clips import open_sources
from relo_edge.training.render import Jitter
from relo_edge.training.synthetic_batches import (
    ClipSettings,
    mix_clips,
    name_lost_workers,
    split_clips,
    stream_clips,
)

SETTINGS = ClipSettings(3, 2, Jitter(), seed=4)
NAMES = ("templates", "template_boxes", "searches", "boxes", "seen")


@pytest.fixture
def folders(tmp_path):
    return [write_plain(tmp_path / "mine", frames=6), write_coco(tmp_path / "coco")]


def take(folders, count, settings=SETTINGS, **options):
    stream = stream_real_clips(open_sources(folders), SMALL, settings, **options)
    batches = [next(stream) for _ in range(count)]
    stream.close()
    return batches


def equal(one, other):
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in NAMES)


def test_batches_have_the_shapes_of_synthetic_ones(folders):
    (real,) = take(folders, 1)
    drawn = next(stream_clips(small_atlas(), SMALL, SETTINGS))
    for name in NAMES:
        one, other = getattr(real, name), getattr(drawn, name)
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name


@pytest.mark.slow
def test_clips_do_not_depend_on_how_many_read_them_nor_on_a_break(folders):
    alone = take(folders, 4)
    assert not equal(alone[0], alone[1])
    assert all(map(equal, alone, take(folders, 4, workers=2)))
    resumed = take(folders, 2, items=count(2), workers=2)
    assert all(map(equal, alone[2:], resumed))
    other = ClipSettings(3, 2, Jitter(), seed=5)
    assert not equal(alone[0], take(folders, 1, other)[0])


def test_a_clip_does_not_depend_on_the_others_of_its_step(folders):
    fewer = ClipSettings(2, 2, Jitter(), seed=4)
    more, less = take(folders, 1)[0], take(folders, 1, fewer)[0]
    assert torch.equal(more.searches[:2], less.searches)


def test_each_folder_is_drawn_from_as_often(folders, monkeypatch):
    names = []
    crops = drawing.cut_clip
    monkeypatch.setattr(
        drawing, "cut_clip", lambda shot, *rest: names.append(shot.name) or crops(shot, *rest)
    )
    RealClips(open_sources(folders), SMALL, ClipSettings(200, 1, Jitter()))[0].unpack()
    stills = sum(name.endswith(".jpg") for name in names)
    assert 70 < stills < 130


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_reader_outlives_an_error_that_is_still_looked_at(folders, share):
    before = set(active_children())
    settings = ClipSettings(2, 1, Jitter())
    material = open_training_data(
        [] if share == 1 else folders, share, settings, SMALL, small_atlas
    )
    with pytest.raises(ZeroDivisionError) as held, material.stream(0, torch.device("cpu")) as clips:
        assert next(clips).searches.shape[0] / 0
    # They ignore SIGTERM, so the program's end would wait for them for ever.
    assert held.traceback
    assert set(active_children()) <= before


def test_footage_can_be_sent_to_a_fresh_process(folders):
    clips = RealClips(open_sources(folders), SMALL, SETTINGS)
    again = pickle.loads(pickle.dumps(clips))
    assert equal(clips[3].unpack(), again[3].unpack())


def break_pictures(folder, count):
    pictures = sorted(folder.rglob("*.jpg"))[:count]
    for picture in pictures:
        picture.write_bytes(picture.read_bytes()[:100])
    return pictures


def test_broken_pictures_are_named_once_counted_and_left_out(folders, caplog):
    broken = break_pictures(folders[1], 2)
    with caplog.at_level(logging.WARNING, "relo_edge"):
        batches = take(folders, 12)
    assert len(batches) == 12
    lines = [record.message for record in caplog.records]
    for picture in broken:
        assert sum(str(picture) in line for line in lines) == 1
    drawn = re.fullmatch(r"left out 2 pictures or videos, drawn (\d+) times", lines[-1])
    assert int(drawn[1]) >= 2
    assert len(lines) == 3


@pytest.mark.slow
def test_many_broken_pictures_are_counted(tmp_path, caplog):
    folders = [write_plain(tmp_path / "mine", frames=4), write_coco(tmp_path / "coco", pictures=30)]
    break_pictures(folders[1], 30)
    with caplog.at_level(logging.WARNING, "relo_edge"):
        take(folders, 30)
    assert len(caplog.records) == drawing.TOLD + 1
    assert int(caplog.records[-1].message.split()[2]) > drawing.TOLD


def test_a_sequence_that_does_not_fit_is_left_out(tmp_path, caplog):
    write_lasot(tmp_path, "bear-3", frames=6)
    write_lasot(tmp_path, "bear-5", frames=6)
    write_boxes(tmp_path / "bear" / "bear-5" / "groundtruth.txt", list_boxes(9))
    with caplog.at_level(logging.WARNING, "relo_edge"):
        take([tmp_path], 4)
    assert "bear-5': found 6 images and 9 boxes" in caplog.records[0].message


@pytest.mark.parametrize("spoil", ["pictures", "boxes", "gone"])
def test_a_folder_without_a_clip_is_refused_with_a_reason(tmp_path, spoil):
    write_plain(tmp_path, ["one"], frames=3)
    reason = "half of it"
    if spoil == "pictures":
        break_pictures(tmp_path, 3)
    elif spoil == "boxes":
        reason = "target too small to follow"
        write_boxes(tmp_path / "one" / "groundtruth.txt", [[5, 5, 2, 2]] * 3)
    else:
        reason = "in 0 frames"
        write_boxes(tmp_path / "one" / "groundtruth.txt", [[5, 5, 0, 0]] * 3)
    with pytest.raises(
        SourceError, match=f"nothing to learn from in .* 1 videos as plain.*{reason}"
    ):
        check_sources(open_sources([tmp_path]), SMALL, SETTINGS)


def test_every_folder_must_give_a_clip(folders):
    break_pictures(folders[1], 3)
    with pytest.raises(SourceError, match="nothing to learn from in coco: 6 boxes as coco"):
        check_sources(open_sources(folders), SMALL, SETTINGS)


def test_what_breaks_later_ends_the_stream_in_a_line(tmp_path):
    write_plain(tmp_path, ["one"], frames=3)
    stream = stream_real_clips(open_sources([tmp_path]), SMALL, SETTINGS)
    next(stream)
    break_pictures(tmp_path, 3)
    with pytest.raises(SourceError, match="nothing to learn from") as caught:
        deque(islice(stream, 20))
    assert "Traceback" not in str(caught.value)


@pytest.mark.slow
def test_a_reader_that_is_killed_is_named(folders):
    others = set(list_children())
    stream = stream_real_clips(open_sources(folders), SMALL, SETTINGS)
    next(stream)
    (child,) = set(list_children()) - others
    os.kill(int(child), signal.SIGKILL)
    # Either the system says that it ended, or the pipe to it does.
    with pytest.raises(SourceError, match="draws clips ended: found"), name_lost_workers():
        deque(islice(stream, 500))
    stream.close()


def list_children():
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def test_other_errors_keep_their_names():
    with pytest.raises(RuntimeError, match="of our own"), name_lost_workers():
        raise RuntimeError("of our own")


@pytest.mark.slow
def test_real_and_synthetic_clips_share_a_step(folders):
    real, synthetic = split_clips(SETTINGS, 1 / 3)
    assert (real.clips, synthetic.clips) == (2, 1)
    streams = [
        stream_real_clips(open_sources(folders), SMALL, real),
        stream_clips(small_atlas(), SMALL, synthetic),
    ]
    mixed = next(mix_clips(streams, torch.device("cpu")))
    assert torch.equal(mixed.searches[:2], take(folders, 1, real)[0].searches)
    drawn = next(stream_clips(small_atlas(), SMALL, synthetic))
    assert torch.equal(mixed.searches[2:], drawn.searches)
    assert mixed.seen.shape == (3, 2)


def test_the_cores_read_where_a_gpu_learns(monkeypatch):
    assert count_workers(torch.device("cpu")) == 1
    for cores, workers in ((1, 1), (2, 1), (8, 7), (200, 16)):
        monkeypatch.setattr(drawing, "count_cores", lambda cores=cores: cores)
        assert count_workers(torch.device("cuda")) == workers
