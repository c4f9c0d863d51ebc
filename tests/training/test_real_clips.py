"""Which frames make a clip: visible ones, in order, within reach; a still picture for COCO."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from layouts import (
    list_boxes,
    write_boxes,
    write_coco,
    write_got10k,
    write_got10k_test,
    write_lasot,
    write_plain,
    write_trackingnet,
)

from relo_edge.errors import InputError, SourceError
from relo_edge.training import real_clips as sources
from relo_edge.training.real_clips import REACH, UnusableClip, open_sources


@given(
    st.lists(st.integers(0, 2000), min_size=2, unique=True),
    st.integers(1, 9),
    st.integers(0, 1000),
)
def test_a_clips_frames_are_visible_in_order_and_within_reach(visible, frames, seed):
    visible = np.array(sorted(visible))
    chosen = sources._choose_frames(np.random.default_rng(seed), visible, frames)
    first, searches = chosen[0], chosen[1:]
    assert len(searches) == frames
    assert set(chosen.tolist()) <= set(visible.tolist())
    assert (np.diff(searches) >= 0).all()
    assert searches[0] > first
    reachable = visible[(visible > first) & (visible <= first + REACH)]
    if len(reachable):
        assert searches[-1] <= first + REACH
        assert len(set(searches.tolist())) == frames or frames > len(reachable)
    else:
        next_one = visible[visible > first][0]
        assert (searches == next_one).all()


def draw(folder, frames=2, seed=0):
    (source,) = open_sources([folder])
    return source.draw(np.random.default_rng(seed), frames)


@pytest.mark.parametrize("seed", range(6))
def test_hidden_frames_are_never_drawn(tmp_path, seed):
    shot = draw(write_got10k(tmp_path, frames=6, cover=(8, 0, 8, 0, 0, 8)), seed=seed)
    assert {path.stem for path in shot.pictures} <= {"00000001", "00000003", "00000006"}
    # Boxes tell by their x which frame they are of.
    assert shot.boxes[:, 0].tolist() == [int(path.stem) for path in shot.pictures]


def test_every_video_and_every_frame_is_drawn(tmp_path):
    write_plain(tmp_path, ["one", "two", "three"], frames=4)
    (source,) = open_sources([tmp_path])
    shots = [source.draw(np.random.default_rng(seed), 2) for seed in range(60)]
    assert {shot.name for shot in shots} == {"one", "two", "three"}
    assert {path.stem for shot in shots for path in shot.pictures} == {f"{n:04d}" for n in range(4)}
    assert {shot.pictures[0].stem for shot in shots} == {"0000", "0001", "0002"}


def test_a_picture_of_coco_stands_still(tmp_path):
    shot = draw(write_coco(tmp_path), frames=3)
    assert len(set(shot.pictures)) == 1
    assert shot.pictures[0].is_file()
    assert shot.boxes.shape == (4, 4)
    assert (shot.boxes == shot.boxes[0]).all()
    assert shot.size == (64, 48)


def test_folders_tell_what_they_are(tmp_path):
    write_got10k(tmp_path / "train")
    write_lasot(tmp_path / "LaSOT", "bear-3")
    write_trackingnet(tmp_path / "TrackingNet", ["a", "b"], boxes=11, part="TRAIN_3")
    write_coco(tmp_path / "coco")
    folders = [tmp_path / name for name in ("train", "LaSOT", "TrackingNet", "coco")]
    assert [source.describe() for source in open_sources(folders)] == [
        "train: 1 videos as got10k",
        "LaSOT: 1 videos as lasot",
        "TrackingNet: 2 videos as trackingnet",
        "coco: 6 boxes as coco",
    ]


def test_first_boxes_only_are_refused(tmp_path):
    with pytest.raises(InputError, match="as got10k: found first boxes only, expected a box for"):
        open_sources([write_got10k_test(tmp_path)])


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(InputError, match="found no such folder"):
        open_sources([tmp_path / "none"])
    with pytest.raises(
        InputError, match=r"no layout that fits, expected got10k .*\| coco; give each"
    ):
        open_sources([tmp_path])


def test_a_target_that_is_seen_once_is_unfit(tmp_path):
    folder = write_plain(tmp_path, ["one"], frames=3) / "one"
    boxes = list_boxes(3)
    boxes[1] = boxes[2] = [0, 0, 0, 0]
    write_boxes(folder / "groundtruth.txt", boxes)
    with pytest.raises(UnusableClip, match="shows its target in 1 frames"):
        draw(tmp_path)


def test_a_broken_video_is_told_when_it_is_drawn(tmp_path):
    folder = write_plain(tmp_path, ["one"], frames=3) / "one"
    write_boxes(folder / "groundtruth.txt", list_boxes(5))
    with pytest.raises(SourceError, match="found 3 images and 5 boxes"):
        draw(tmp_path)
