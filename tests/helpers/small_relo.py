"""A RELO small enough for tests: a third of the demo's blocks, half as wide."""

from dataclasses import replace

import torch

from relo_edge.export.publishing import export_bundle
from relo_edge.families.relo import SIZES
from relo_edge.network.checkpoint import read_checkpoint
from relo_edge.network.fixed_weights import draw_weights
from relo_edge.spec import VARIANTS

SMALL = replace(VARIANTS["demo"], name="small", width=96, depth=2, head_channels=32)

# A size as the others, in the processes that import this.
SIZES[SMALL.name] = SMALL


def export_small(folder):
    """Its bundle, verified as any other, with its checkpoint beside it."""
    source = folder / "small.pth"
    torch.save(dict(draw_weights(SMALL)), source)
    return export_bundle(read_checkpoint(source), folder / SMALL.name)
