"""Rendered crops show what their boxes say, and one seed gives one clip."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from small_training import SMALL, small_atlas, small_batch

from relo_edge.geometry import box_in_template, place_crop
from relo_edge.training import scenes
from relo_edge.training.render import Jitter, render_clips
from relo_edge.training.synthetic_batches import ClipSettings, stream_clips
from relo_edge.training.textures import build_atlas


@pytest.fixture
def plain_atlas():
    """Black backgrounds, and one sprite: a white disc."""
    atlas = small_atlas()
    turn = torch.linspace(0, 2 * np.pi, 33)[:-1]
    steps = torch.linspace(-1, 1, 64)
    disc = (steps[:, None] ** 2 + steps[None] ** 2 < 0.81).float() * 255
    return replace(
        atlas,
        backgrounds=torch.zeros_like(atlas.backgrounds),
        sprites=disc.byte().expand(1, 4, 64, 64).contiguous(),
        outlines=0.9 * torch.stack([turn.cos(), turn.sin()], dim=1)[None],
        peers=torch.zeros_like(atlas.peers[:1]),
    )


def test_the_box_holds_the_target(plain_atlas, monkeypatch):
    for share in ("REGION_SHARE", "DISTRACTOR_SHARE", "OCCLUDER_SHARE", "EDGE_SHARE"):
        monkeypatch.setattr(scenes, share, 0.0)
    variant = replace(SMALL, search_size=128)
    batch = render_clips(plain_atlas, variant, torch.Generator().manual_seed(0), 8, 3, Jitter())
    checked = 0
    for crop, box in zip(batch.searches.flatten(0, 1), batch.boxes.flatten(0, 1), strict=True):
        low, high = (box[:2] - box[2:] / 2) * 128, (box[:2] + box[2:] / 2) * 128
        if (low < 2).any() or (high > 126).any():
            continue
        rows, columns = np.nonzero(crop.numpy().max(axis=2) > 100)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        slack = 2 + 0.03 * float(box[2:].max()) * 128  # between two points of the outline
        assert np.abs(np.array(seen) - torch.cat([low, high]).numpy()).max() < slack
        checked += 1
    assert checked > 5


def test_the_templates_box_is_the_trackers():
    batch = small_batch(clips=4)
    for x, y, width, height in batch.template_boxes.tolist():
        pixels = np.array([width, height]) * 1000 * 31 / 32
        factor = SMALL.protocol().template_factor
        window = place_crop((500.0, 500.0, *pixels.tolist()), factor, 32)
        assert window.side == pytest.approx(1000, abs=1.01)
        expected = box_in_template((500.0, 500.0, *pixels.tolist()), window, 32)
        assert (x, y, width, height) == pytest.approx(tuple(expected), abs=2e-3)


def test_targets_that_count_are_in_their_crops():
    batch = small_batch(clips=32, frames=2, jitter=Jitter(centre=6.0))
    centres = batch.boxes[..., :2][batch.seen]
    assert ((centres > 0) & (centres < 1)).all()
    assert 0 < batch.seen.float().mean() < 1


def test_without_jitter_targets_stand_in_the_middle():
    batch = small_batch(clips=8, jitter=Jitter(centre=0.0, scale=0.0))
    whole = batch.boxes[batch.seen]
    share = torch.tensor(1 / SMALL.protocol().search_factor)
    assert torch.allclose(whole[:, :2], torch.tensor(0.5), atol=1e-4)
    assert torch.allclose(whole[:, 2:].prod(dim=1).sqrt(), share, atol=1e-4)


def test_one_seed_one_clip_and_another_another():
    assert torch.equal(small_batch(seed=5).searches, small_batch(seed=5).searches)
    assert not torch.equal(small_batch(seed=5).searches, small_batch(seed=6).searches)


@pytest.mark.slow
def test_a_resumed_stream_goes_on_as_an_unbroken_one():
    settings = ClipSettings(2, 1, Jitter(), seed=4)
    unbroken = stream_clips(small_atlas(), SMALL, settings)
    batches = [next(unbroken) for _ in range(3)]
    resumed = next(stream_clips(small_atlas(), SMALL, settings, items=count(2)))
    assert torch.equal(batches[2].searches, resumed.searches)
    assert not torch.equal(batches[1].searches, resumed.searches)


@pytest.mark.slow
def test_an_atlas_is_a_function_of_its_seed():
    first, second = (build_atlas((), seed=1, backgrounds=2, sprites=4) for _ in range(2))
    assert torch.equal(first.backgrounds, second.backgrounds)
    assert torch.equal(first.sprites, second.sprites)
    assert not torch.equal(
        first.backgrounds, build_atlas((), seed=2, backgrounds=2, sprites=4).backgrounds
    )


def test_outlines_surround_their_sprites():
    atlas = small_atlas()
    for sprite, outline in zip(atlas.sprites, atlas.outlines, strict=True):
        rows, columns = np.nonzero(sprite[3].numpy() > 128)
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        seen = seen / (sprite.shape[1] / 2) - 1
        told = torch.cat([outline.amin(dim=0), outline.amax(dim=0)]).numpy()
        assert np.abs(seen - told).max() < 0.2
