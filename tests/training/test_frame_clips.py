"""Whole small frames for DRLT: the same ones from a seed, with boxes that are true of them."""

from contextlib import closing
from itertools import islice

import numpy as np
import pytest
import torch

from relo_edge.geometry import box_in_frame, resize_frame
from relo_edge.training.box_trial import HELD_OUT, move_on, stay, try_boxes
from relo_edge.training.frame_clips import (
    FIRST_SEED,
    MIRRORS,
    FrameClipSettings,
    draw_clip,
    stream_frame_clips,
)

SETTINGS = FrameClipSettings(4, 6, 2, 32, steps=8, seed=3)


def take(items):
    with closing(stream_frame_clips(SETTINGS, items)) as stream:
        return list(islice(stream, len(items)))


def test_an_item_is_the_same_whatever_was_drawn_before_it():
    first, second, *_, later = take(range(5))
    again, new = take([1, 4])
    for one, other in ((first, again), (second, again), (later, new)):
        assert torch.equal(one.frames, other.frames)
        assert torch.equal(one.boxes, other.boxes)
    assert [one.progress for one in (first, second, new)] == [0.0, 0.125, 0.5]
    assert not torch.equal(first.frames[:, :2], later.frames[:, :2])


def test_clips_grow_over_the_first_half_of_the_run():
    assert [SETTINGS.grow(step) for step in range(0, 10, 2)] == [2, 4, 6, 6, 6]
    assert [SETTINGS.measure_progress(step) for step in (0, 4, 8, 9)] == [0, 0.5, 1, 1]
    (batch,) = take([5])
    assert batch.frames.shape == (4, 6, 32, 32, 3)
    assert batch.boxes.shape == (4, 6, 4)


def test_mirrored_clips_have_mirrored_boxes():
    (batch,) = take([2])
    assert len(batch) == MIRRORS
    plain, across, down, both = batch.boxes
    assert torch.allclose(across[:, 0], 1 - plain[:, 0])
    assert torch.allclose(down[:, 1], 1 - plain[:, 1])
    assert torch.allclose(both[:, :2], 1 - plain[:, :2])
    for mirrored in (across, down, both):
        assert torch.equal(mirrored[:, 2:], plain[:, 2:])
    # whatever the colours' order, their mean is the same picture, mirrored
    grey = batch.frames.float().mean(dim=-1)
    assert torch.allclose(grey[1], grey[0].flip(2))
    assert torch.allclose(grey[2], grey[0].flip(1))
    assert torch.allclose(grey[3], grey[0].flip(1, 2))


def test_the_box_lies_on_the_target():
    """The target's colours are strong and the ground's are dull."""
    frames, boxes = draw_clip(FIRST_SEED + 2, np.arange(0, 40, 8), 64)
    values = frames.float()
    colourful = values.amax(dim=-1) - values.amin(dim=-1)
    for picture, (x, y, width, height) in zip(colourful, boxes * 64, strict=True):
        rows = slice(int(y - height / 4), int(y + height / 4) + 1)
        columns = slice(int(x - width / 4), int(x + width / 4) + 1)
        assert picture[rows, columns].mean() > 2 * picture.median()


def test_training_draws_nothing_that_is_held_out():
    assert HELD_OUT + 64 < FIRST_SEED


def test_a_frame_is_shrunk_whole():
    frame = np.zeros((40, 80, 3), np.uint8)
    frame[:20, :40] = 200
    small = resize_frame(frame, 4)
    assert (small[:2, :2] == 200).all()
    assert not small[2:].any()
    assert not small[:, 2:].any()
    assert box_in_frame((0, 0, 40, 20), (80, 40)).tolist() == [0.25, 0.25, 0.5, 0.5]


def test_boxes_that_look_at_nothing():
    truth = torch.tensor([[0.2, 0.5, 0.1, 0.2], [0.25, 0.4, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1]])
    assert torch.equal(stay(truth), truth[[0, 0, 0]])
    expected = torch.tensor([[0.2, 0.5], [0.25, 0.4], [0.3, 0.3]])
    assert torch.allclose(move_on(truth)[:, :2], expected)
    assert torch.equal(move_on(truth)[:, 2:], truth[[0, 0, 0], 2:])


@pytest.mark.slow
def test_a_network_that_knows_the_answer_is_perfect():
    class Knowing(torch.nn.Module):
        """Answers with the clip's truth, in the order in which clips are tried."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.variant = type("Sizes", (), {"frame_size": 16})
            self.tried = 0

        def follow(self, frames, locations):
            truth = draw_clip(HELD_OUT + self.tried, np.arange(frames.shape[1]), 16, (640, 360))[1]
            assert torch.equal(locations[0], truth[0])
            self.tried += 1
            return truth[None]

    trial = try_boxes(Knowing(), clips=2, frames=12)
    assert trial.mean_iou > 0.999
    assert 0 < trial.still_iou < 0.95
    assert trial.moving_iou != trial.still_iou
    assert "a static box 0." in trial.describe()
