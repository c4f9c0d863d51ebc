"""Small networks and clips, so that training tests take seconds."""

from dataclasses import replace
from functools import cache

import torch

from relo_edge.spec import VARIANTS, TrackerProtocol
from relo_edge.training.init_weights import build_fresh
from relo_edge.training.render import Jitter, render_clips
from relo_edge.training.textures import build_atlas

SMALL = replace(
    VARIANTS["demo"],
    name="small",
    width=32,
    heads=2,
    depth=2,
    head_channels=16,
    search_size=64,
    template_size=32,
    temporal_tokens=2,
    protocols={"default": TrackerProtocol(2.0)},
)


@cache
def small_atlas():
    return build_atlas((), seed=3, backgrounds=6, sprites=12)


def small_batch(clips=3, frames=2, seed=0, jitter=None, variant=SMALL):
    generator = torch.Generator().manual_seed(seed)
    return render_clips(small_atlas(), variant, generator, clips, frames, jitter or Jitter())


def small_network(seed=0):
    return build_fresh(SMALL, seed)


def take_steps(network, stage, count=2, rate=1e-2, **clips):
    optimizer = torch.optim.AdamW(stage.group_parameters(network), rate)
    stage.set_mode(network)
    for step in range(count):
        loss, shown = stage.learn(network, small_batch(seed=step, **clips))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return shown


def copy_state(network):
    return {name: value.clone() for name, value in network.state_dict().items()}
