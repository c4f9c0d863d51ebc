"""Each stage's recipe: its settings where the request leaves them open."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

from relo_edge.errors import InputError
from relo_edge.network.relo import Relo, build_network
from relo_edge.training.loop import LoopSettings, Stage
from relo_edge.training.qat import Qat
from relo_edge.training.reinforce import Reinforce
from relo_edge.training.render import Jitter
from relo_edge.training.requests import TrainRequest
from relo_edge.training.slt import SequenceLevel
from relo_edge.training.synthetic_batches import ClipSettings
from relo_edge.training.teacher import Teacher
from relo_edge.training.warmup import Warmup

__all__ = ["Recipe", "choose_recipe"]

SHIFT = 0.875
"""How far a search crop is shifted, as a share of its side: most targets stay in it."""

RECENT = 1 / 6
"""Share of a warm-up's steps whose weights are averaged."""

LONGEST_INTERVAL = 7
"""Largest interval between two frames of a sequence, in frames of its video."""


@dataclass(frozen=True)
class Recipe:
    """A stage with the clips it sees and the loop it runs in."""

    stage: Stage[Relo]
    clips: ClipSettings
    loop: LoopSettings


def choose_recipe(request: TrainRequest, network: Relo, processes: int = 1) -> Recipe:
    """The stage's recipe, with the request's values where it gives them."""
    recipe = _start_recipe(request, network)
    parts = processes * request.accumulate
    batch = request.batch_clips or recipe.clips.clips
    if batch % parts:
        raise InputError(
            "--batch-clips", found=batch, expected=f"a multiple of {parts}, the parts of a step"
        )
    steps = request.steps or recipe.loop.steps
    return Recipe(
        recipe.stage,
        replace(recipe.clips, clips=batch // parts, parts=parts, steps=steps),
        replace(
            recipe.loop,
            steps=steps,
            rate=request.rate or recipe.loop.rate,
            seed=request.seed,
            accumulate=request.accumulate,
        ),
    )


def _start_recipe(request: TrainRequest, network: Relo) -> Recipe:
    seed = request.seed
    if request.stage == "reinforce":
        clips = ClipSettings(16, 8, Jitter(), seed)
        stage = Reinforce(request.algorithm, parts=request.accumulate)
        return Recipe(stage, clips, LoopSettings(1000, 1e-4, warm_steps=20))
    if request.stage == "slt":
        clips = ClipSettings(8, 24, Jitter(), seed, intervals=LONGEST_INTERVAL, first_frames=8)
        loop = LoopSettings(1000, 2e-5, weight_decay=0, warm_steps=20, log_every=5, save_every=25)
        return Recipe(SequenceLevel(), clips, loop)
    if request.stage == "qat":
        teacher = build_network(network.variant, copy.deepcopy(network.state_dict()))
        clips = ClipSettings(16, 3, Jitter(), seed)
        loop = LoopSettings(300, 5e-5, weight_decay=0, warm_steps=20, save_every=50, half=False)
        return Recipe(Qat(teacher, request.attention), clips, loop)
    backbone = Teacher(request.teacher, network.variant) if request.teacher else None
    everything = Warmup(encoder_rate=1.0, spread=0.5, centre=0.5, teacher=backbone)
    reach = SHIFT * network.variant.protocol().search_factor
    if request.checkpoint is None:
        clips = ClipSettings(48, 2, Jitter(centre=reach, scale=0.4, calm=0.2), seed)
        return Recipe(everything, clips, LoopSettings(4000, 1e-3, average=RECENT))
    if request.learn_centres:
        clips = ClipSettings(48, 2, Jitter(centre=reach, scale=0.3, calm=0.5), seed)
        return Recipe(everything, clips, LoopSettings(2000, 5e-4, average=RECENT))
    return Recipe(
        Warmup(teacher=backbone), ClipSettings(48, 1, Jitter(), seed), LoopSettings(1000, 1e-4)
    )
