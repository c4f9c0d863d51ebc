"""Real clips for a tracker that looks by itself: its crops are those of the picture."""

import cv2
import numpy as np
import pytest
import torch
from layouts import write_plain
from small_training import SMALL, small_network
from verbs import run_verb

from relo_edge.geometry import crop_into, place_crop
from relo_edge.network.demo import find_demo_checkpoint
from relo_edge.training import run
from relo_edge.training.closed_loop import pick_best, track_sequences
from relo_edge.training.real_batches import stream_real_clips
from relo_edge.training.real_clips import ClipFrames, _choose_run, open_sources
from relo_edge.training.real_sequences import cut_sequence, pack_sequences
from relo_edge.training.render import Jitter
from relo_edge.training.synthetic_batches import ClipSettings


@pytest.fixture
def shot(tmp_path):
    """Three smooth pictures of another brightness each."""
    rng = np.random.default_rng(0)
    small = rng.integers(30, 200, (12, 16, 3)).astype(np.uint8)
    image = cv2.resize(small, (640, 480), interpolation=cv2.INTER_CUBIC)
    paths = []
    for index in range(3):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), image)
        paths.append(path)
    boxes = np.array([[300, 200, 60, 40], [310, 210, 60, 40], [320, 220, 62, 42]], float)
    return ClipFrames("smooth", tuple(paths), boxes)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_a_crop_is_what_the_tracker_would_cut_out_of_the_picture(shot, seed, monkeypatch):
    monkeypatch.setattr("relo_edge.training.real_sequences.BRIGHTNESS", 0.0)
    batch = pack_sequences([cut_sequence(shot, SMALL, np.random.default_rng(seed))])
    picture = cv2.imread(str(shot.pictures[1]))[..., ::-1]
    mirrored = abs(float(batch.boxes[0, 0, 0]) - (640 - 330)) < 1
    if mirrored:
        picture = picture[:, ::-1]
    assert batch.boxes[0, 2, 2:].tolist() == [62, 42]
    assert batch.edges[0].tolist() == [0, 0, 640, 480]
    box = batch.boxes[0, 1].double().numpy() + np.array([9, -7, 0, 0])
    window = place_crop((*(box[:2] - box[2:] / 2), *box[2:]), 4.0, SMALL.search_size)
    wanted = crop_into(
        np.empty((SMALL.search_size,) * 2 + (3,), np.uint8), np.ascontiguousarray(picture), window
    )
    middle = torch.tensor([[window.left + window.side / 2, window.top + window.side / 2]])
    got = batch.pictures.crop(1, middle, torch.tensor([float(window.side)]), SMALL.search_size)
    assert np.abs(got[0].numpy().astype(int) - wanted).mean() < 3


def test_beyond_the_region_it_is_black(shot):
    batch = pack_sequences([cut_sequence(shot, SMALL, np.random.default_rng(0))])
    far = batch.pictures.crop(1, torch.tensor([[5000.0, 5000.0]]), torch.tensor([100.0]), 16)
    assert not far.any()


def test_a_tracker_follows_them(shot):
    batch = pack_sequences([cut_sequence(shot, SMALL, np.random.default_rng(0))])
    steps = list(track_sequences(small_network().eval(), batch, pick_best))
    assert len(steps) == 2
    assert all(torch.isfinite(step.overlaps).all() for step in steps)


def test_frames_follow_one_another_at_intervals_of_up_to_so_many():
    visible = np.arange(100, 400)
    longest = 0
    for seed in range(50):
        chosen = _choose_run(np.random.default_rng(seed), visible, 20, 7)
        steps = np.diff(chosen)
        assert len(chosen) == 21
        assert (steps >= 1).all()
        longest = max(longest, int(steps.max()))
    assert longest == 7
    few = _choose_run(np.random.default_rng(0), np.array([3, 5, 9]), 6, 2)
    assert few[-1] == 9
    assert (np.diff(few) >= 0).all()


def test_a_batch_is_a_function_of_its_item(tmp_path):
    folders = [write_plain(tmp_path / "data", ["one", "two"])]
    clips = ClipSettings(2, 4, Jitter(), 1, intervals=3, first_frames=2, steps=1)
    first, second = (
        next(stream_real_clips(open_sources(folders), SMALL, clips, iter([7]), 0)) for _ in range(2)
    )
    assert torch.equal(first.boxes, second.boxes)
    assert torch.equal(first.pictures.pictures, second.pictures.pictures)
    assert first.frames == 4


@pytest.mark.slow
def test_the_verb_takes_real_and_synthetic_clips_together(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "ATLAS", 6)
    monkeypatch.setattr(run, "TRIAL_CLIPS", 1)
    data = write_plain(tmp_path / "data", ["one", "two"])
    words = ["--data", data, "--synthetic", "0.5", "--batch-clips", "2", "--steps", "1"]
    code, _, err = run_verb(
        capsys, "train", "slt", "--from", find_demo_checkpoint(), "-o", tmp_path / "run", *words
    )
    assert code == 0, err
