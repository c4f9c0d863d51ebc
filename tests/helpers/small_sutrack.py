"""A SUTrack small enough for tests: few blocks, and a text tower of one block and a few words."""

from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from relo_edge.export.publishing import export_bundle
from relo_edge.network import clip_text
from relo_edge.network.checkpoint import Checkpoint
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.network.sutrack import sutrack_shapes
from relo_edge.runtimes.pytorch import PytorchRuntime
from relo_edge.spec import VARIANTS, TrackerProtocol

SMALL = replace(
    VARIANTS["sutrack-b224"],
    name="sutrack-small",
    width=96,
    heads=3,
    stage_blocks=(1, 1),
    depth=2,
    head_channels=32,
    search_size=96,
    template_size=48,
    protocols={"default": TrackerProtocol(1.0, update_interval=3, update_threshold=-1.0)},
)


@contextmanager
def small_text_tower(words=50):
    """While it lasts, CLIP's text tower has one block and knows few words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_text, "VOCABULARY", words)
        patch.setattr(clip_text, "DEPTH", 1)
        sutrack_shapes.cache_clear()
        yield
    sutrack_shapes.cache_clear()


def draw_small():
    with small_text_tower():
        return dict(draw_weights(SMALL))


def export_small(folder):
    """Its bundle, verified as any other."""
    source, weights = folder / "sutrack-small.pth", draw_small()
    torch.save(weights, source)
    with small_text_tower():
        return export_bundle(Checkpoint(SMALL, weights, source), folder / "sutrack-small")


def open_reference(batch=1):
    with small_text_tower():
        return PytorchRuntime(SMALL, draw_small(), batch=batch)
