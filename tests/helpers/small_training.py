"""Small networks and clips, so that training tests take seconds."""

from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import count

import torch

from relo_edge.spec import VARIANTS, TrackerProtocol
from relo_edge.training.checkpointing import RunState
from relo_edge.training.init_weights import build_fresh
from relo_edge.training.loop import LoopSettings, run_loop
from relo_edge.training.render import Jitter, render_clips
from relo_edge.training.synthetic_batches import ClipSettings, stream_clips
from relo_edge.training.textures import build_atlas
from relo_edge.training.warmup import Warmup

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


def train_small(folder, steps, network=None, log_every=1, average=0.0):
    network = network or small_network()
    run_state = RunState(folder, "warmup", {"seed": 1})
    run_state.restore(network)
    clips = ClipSettings(2, 1, Jitter(), 1)
    settings = LoopSettings(
        steps,
        1e-3,
        warm_steps=1,
        log_every=log_every,
        save_every=2,
        half=False,
        average=average,
    )
    with closing(stream_clips(small_atlas(), SMALL, clips, count(run_state.step))) as stream:
        finished = run_loop(network, Warmup(), stream, settings, run_state)
    return network, run_state, finished


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
