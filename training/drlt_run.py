"""A run of `train drlt`, from request to result."""

from __future__ import annotations

import logging
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from relo_edge.errors import InputError
from relo_edge.host.locks import lock_output
from relo_edge.host.progress import show_progress
from relo_edge.network.drlt import Drlt, build_fresh_drlt
from relo_edge.network.drlt_sizes import DrltVariant, find_drlt_variant
from relo_edge.training.box_reinforce import BoxReinforce
from relo_edge.training.box_trial import BoxTrial, try_boxes
from relo_edge.training.checkpointing import RunState, make_run_folder
from relo_edge.training.curve import draw_curve
from relo_edge.training.frame_clips import MIRRORS, FrameClipSettings, stream_frame_clips
from relo_edge.training.loop import LoopSettings, run_loop
from relo_edge.training.pack_weights import pack_weights
from relo_edge.training.processes import Processes
from relo_edge.training.requests import TrainRequest
from relo_edge.training.synthetic_batches import count_items, name_lost_workers
from relo_edge.training.train_result import TrainResult

__all__ = ["choose_drlt_recipe", "run_drlt"]

log = logging.getLogger("relo_edge")

TRIAL_CLIPS = 64
START_CLIPS = 4
"""On which the untrained weights are tried: they are at nothing."""


@dataclass(frozen=True)
class DrltRecipe:
    """The stage with the clips it sees and the loop it runs in."""

    stage: BoxReinforce
    clips: FrameClipSettings
    loop: LoopSettings


def choose_drlt_recipe(
    request: TrainRequest, variant: DrltVariant, processes: int = 1
) -> DrltRecipe:
    """The paper's settings for its own size, those found here for the demo's."""
    if variant.name == "drlt":
        stage, clips, frames = BoxReinforce(), MIRRORS, (10, 10)
        loop = LoopSettings(50_000, 1e-5, decay=0.1)
    else:
        stage, clips, frames = BoxReinforce(episodes=16), 32, (4, 24)
        loop = LoopSettings(1600, 1e-3, warm_steps=50)
    parts = processes * request.accumulate
    batch, steps = request.batch_clips or clips, request.steps or loop.steps
    if batch % (parts * MIRRORS):
        expected = f"a multiple of {parts * MIRRORS}: each drawn one is seen {MIRRORS} ways"
        raise InputError("--batch-clips", found=batch, expected=expected)
    settings = FrameClipSettings(
        batch // parts, frames[1], frames[0], variant.frame_size, steps, request.seed, parts
    )
    rate = request.rate or loop.rate
    loop = replace(
        loop,
        steps=steps,
        rate=rate,
        weight_decay=0.0,
        seed=request.seed,
        accumulate=request.accumulate,
    )
    return DrltRecipe(stage, settings, loop)


def run_drlt(request: TrainRequest, processes: Processes) -> TrainResult:
    """Train, or go on where the output folder says it stopped."""
    variant = find_drlt_variant("drlt-demo" if request.variant == "demo" else request.variant)
    recipe = choose_drlt_recipe(request, variant, processes.world)
    network = build_fresh_drlt(variant, request.seed).to(processes.device)
    make_run_folder(request.output)
    run_state = RunState(request.output, request.stage, _identify(request, variant))
    alone = lock_output(request.output / request.stage) if processes.leads else nullcontext()
    with alone:  # from here on files of the run are changed
        if run_state.restore(network):
            if processes.leads:
                log.info("going on after step %d", run_state.step)
        elif processes.leads and request.trial:
            start = _try(network, "trial of the start", START_CLIPS)
            run_state.kept = {"start_iou": start.mean_iou}
        items = count_items(recipe.clips.parts, run_state.step, processes.rank, processes.world)
        with name_lost_workers(), closing(stream_frame_clips(recipe.clips, items)) as clips:
            finished = run_loop(network, recipe.stage, clips, recipe.loop, run_state, processes)
    result = TrainResult(
        request.stage,
        variant.name,
        run_state.checkpoint,
        run_state.step,
        run_state.clips,
        run_state.seconds / 3600,
        finished,
        None,
        rank=processes.rank,
    )
    return _publish(request, network, run_state, result) if processes.leads else result


def _publish(
    request: TrainRequest, network: Drlt, run_state: RunState, result: TrainResult
) -> TrainResult:
    """The files and the trial of a run that has ended, finished or not."""
    draw_curve(run_state.log, request.output / f"{request.stage}-curve.png")
    if not result.finished:
        return result
    trial = None
    if request.trial:
        start_iou = run_state.kept.get("start_iou")
        trial = replace(_try(network, "trial", TRIAL_CLIPS), start_iou=start_iou)
    card = {
        "stage": request.stage,
        "variant": result.variant,
        "steps": str(run_state.step),
        "clips": str(run_state.clips),
        "seed": str(request.seed),
        "start": "fresh weights",
        "data": "synthetic clips, drawn from seeds",
    }
    card |= {"trial": trial.describe()} if trial else {}
    pack_weights(result.checkpoint, request.output / f"{request.stage}.safetensors", card=card)
    return replace(result, trial=trial)


def _try(network: Drlt, name: str, clips: int) -> BoxTrial:
    with show_progress(name, clips, "clips") as advance:
        return try_boxes(network, clips, advance=advance)


def _identify(request: TrainRequest, variant: DrltVariant) -> dict[str, Any]:
    """Settings that a resumed run must share; the number of steps may change."""
    return {"variant": variant.name, "clips": request.batch_clips, "seed": request.seed}
