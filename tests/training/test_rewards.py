"""Rewards and advantages against values worked out by hand."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relo_edge.measures.accuracy import OVERLAP_THRESHOLDS, draw_success
from relo_edge.training.rewards import (
    clip_auc,
    frame_rewards,
    group_advantages,
    normalise_advantages,
)


def test_auc_of_a_clip_by_hand():
    # Above 0, .05, … .45 both frames, above .5 … .95 one (0.5 is not above 0.5), above 1 none.
    overlaps = torch.tensor([[0.5, 1.0]])
    success = [1.0] * 10 + [0.5] * 10 + [0.0]
    by_hand = sum((a + b) / 2 * 0.05 for a, b in pairwise(success))
    assert float(clip_auc(overlaps, torch.ones(1, 2))) == pytest.approx(by_hand)


def test_auc_leaves_out_frames_that_do_not_count():
    overlaps, seen = torch.tensor([[0.7, 0.0, 0.7]]), torch.tensor([[1.0, 0.0, 1.0]])
    alone = clip_auc(torch.tensor([[0.7, 0.7]]), torch.ones(1, 2))
    assert torch.equal(clip_auc(overlaps, seen), alone)
    assert float(clip_auc(overlaps, torch.zeros(1, 3))) == 0


# Away from the thresholds, where single precision would decide.
overlaps_between = st.integers(0, 999).map(lambda count: (count + 0.5) / 1000)


@given(st.lists(overlaps_between, min_size=1, max_size=12))
def test_auc_is_the_area_under_the_success_curve_of_published_figures(values):
    success = draw_success(np.array(values))
    area = np.diff(OVERLAP_THRESHOLDS) @ (success[1:] + success[:-1]) / 2
    auc = float(clip_auc(torch.tensor([values]), torch.ones(1, len(values))))
    assert auc == pytest.approx(area, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_auc_is_close_to_the_mean_overlap(values):
    auc = float(clip_auc(torch.tensor([values]), torch.ones(1, len(values))))
    assert auc == pytest.approx(float(np.mean(values)), abs=0.03)


def test_every_frame_shares_in_the_clips_auc():
    overlaps, seen = torch.tensor([[0.2, 0.9]]), torch.ones(1, 2)
    rewards = frame_rewards(overlaps, seen, auc_weight=0.5)
    share = 0.5 * float(clip_auc(overlaps, seen))
    assert rewards[0].tolist() == pytest.approx([0.2 + share, 0.9 + share])


def test_advantages_have_no_mean_and_unit_deviation():
    seen = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    advantages = normalise_advantages(torch.tensor([[1.0, 2.0], [3.0, 100.0]]), seen)
    spread = (2 / 3) ** 0.5
    assert advantages.flatten().tolist() == pytest.approx([-1 / spread, 0, 1 / spread, 0], abs=1e-4)


def test_a_group_is_measured_against_itself():
    rewards = torch.tensor([[[1.0, 5.0]], [[3.0, 5.0]]])
    advantages = group_advantages(rewards, torch.ones(1, 2))
    assert advantages[:, 0, 0].tolist() == pytest.approx([-1, 1], abs=1e-4)
    assert advantages[:, 0, 1].tolist() == [0, 0]
