"""The packaged DRLT on held-out clips, and its card."""

import pytest

from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.demo import find_drlt_checkpoint
from relo_edge.network.drlt import build_drlt
from relo_edge.training.box_trial import try_boxes
from relo_edge.training.pack_weights import read_card


def try_packaged(clips):
    checkpoint = read_checkpoint(find_drlt_checkpoint())
    return try_boxes(build_drlt(checkpoint.variant, checkpoint.weights), clips)


@pytest.mark.slow
def test_a_few_clips_are_followed_better_than_by_a_static_box():
    trial = try_packaged(3)
    assert trial.mean_iou > trial.still_iou


@pytest.mark.slow
def test_held_out_clips_are_followed_better_than_by_boxes_that_look_at_nothing():
    trial = try_packaged(24)
    assert trial.mean_iou > trial.still_iou + 0.1
    assert trial.mean_iou > trial.moving_iou + 0.02


def test_the_file_is_small_and_says_where_it_comes_from():
    path = find_drlt_checkpoint()
    assert path.stat().st_size < 2 * 2**20
    card = read_card(path)
    assert card["variant"] == "drlt-demo"
    assert "synthetic" in card["data"]
    assert "a static box" in card["trial"]
