"""Measuring recovery: the absences are real, and a runtime that sees gains by it."""

import numpy as np
import pytest
from worlds import RedRuntime, find_red

from relo_edge.benchmarks.accuracy.lost_targets import hide_target, measure_recovery
from relo_edge.host.opencv import cv2
from relo_edge.synthetic.clip import SyntheticClip, make_clip


class RedClip(SyntheticClip):
    """The clip's boxes as red squares on grey, blue first."""

    def frames(self, order=None):
        for x, y, width, height in self.boxes:
            frame = np.full((self.size[1], self.size[0], 3), 40, np.uint8)
            if not np.isnan(x):
                low, high = (round(x), round(y)), (round(x + width) - 1, round(y + height) - 1)
                cv2.rectangle(frame, low, high, (0, 0, 200), cv2.FILLED)
            yield frame


def make_red(seed, absences, jump=0.0):
    """A red square that comes back some pixels away."""
    clip = hide_target(make_clip(seed, 70), absences)
    boxes = np.tile([250.0, 150.0, 40.0, 40.0], (70, 1))
    boxes[absences[0][1] :, 0] += jump
    boxes[np.isnan(clip.boxes)] = np.nan
    return RedClip(**{**vars(clip), "boxes": boxes})


def test_the_target_is_away_when_it_should_be():
    clip = make_clip(4, 12, (320, 240))
    hidden = hide_target(clip, [(4, 8)])
    assert np.isnan(hidden.boxes).any(axis=1).tolist() == [False] * 4 + [True] * 4 + [False] * 4
    for index, (shown, without) in enumerate(zip(clip.frames(), hidden.frames(), strict=True)):
        x, y, w, h = clip.boxes[index].astype(int)
        inside = np.abs(shown.astype(int) - without)[y : y + h, x : x + w].mean()
        assert (inside > 20) == (4 <= index < 8)


def test_recovery_finds_what_is_out_of_reach_without():
    red = [make_red(seed, [(20, 35)], jump=150.0) for seed in range(2)]
    result = measure_recovery(RedRuntime(), red)
    without, recovered = result.rows
    assert (without.recover, recovered.recover) == (False, True)
    assert without.returns == recovered.returns == 2
    assert (without.found, recovered.found) == (0, 2)
    assert recovered.iou_after > 0.9 > 0.1 > without.iou_after
    assert without.iou_before == recovered.iou_before > 0.9
    # Two frames pass before a target counts as lost.
    assert without.sure_while_away == recovered.sure_while_away == pytest.approx(2 / 15)
    assert "found 2 of 2" in result.describe()
    assert result.to_dict()["rows"][1]["found"] == 2


def test_each_absence_counts():
    red = [make_red(0, [(5, 12), (30, 40)])]
    assert measure_recovery(RedRuntime(), red).rows[1].returns == 2
    assert find_red(np.zeros((8, 8, 3), np.uint8)) is None
