"""The trial speaks of the AUC that every other verb speaks of."""

import numpy as np
import pytest
from clips import StillRuntime

from relo_edge.geometry import read_box
from relo_edge.measures.accuracy import measure_auc
from relo_edge.measures.closed_loop import follow_target, measure_overlaps_or_nan
from relo_edge.synthetic.clip import make_clip
from relo_edge.training import closed_loop_trial as trial


def test_a_trial_is_scored_as_eval_scores(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "open_runtime", lambda *_, **__: StillRuntime())
    calls = []
    found = trial.try_checkpoint(tmp_path / "none.pt", 2, 6, lambda: calls.append(1))
    overlaps = []
    for seed in (trial.HELD_OUT, trial.HELD_OUT + 1):
        clip = make_clip(seed, 6)
        start = read_box(clip.boxes[0])
        boxes = follow_target(StillRuntime(), clip.frames(), start, lambda: None)
        overlaps.append(measure_overlaps_or_nan(boxes, clip.boxes[1:]))
    scores = np.concatenate(overlaps)
    assert (found.clips, found.frames, len(calls)) == (2, 6, 2)
    assert found.mean_iou == pytest.approx(scores.mean())
    assert found.auc == pytest.approx(measure_auc(scores))
